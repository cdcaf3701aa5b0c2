"""The copies of one import: which stores it writes, and the progress of each, one transaction per step.

A target is *waiting*, *uploading* (prepared), *written* (its store holds the whole object), *done*, or
*failed*. Clients see stores in the first three states in ``os_glance_importing_to_stores``, and failed
ones in ``os_glance_failed_import``. If all stores must succeed, nothing is visible before the end, and a copy
is done when it is written; otherwise a copy is done when it is visible. The list becomes empty only at the
end: the last copy stays *written* until then. A hidden copy that a further attempt cannot use becomes
*uploading* again as soon as it is given up.

Each step takes effect once, however often it is repeated after a crash, so it is announced only once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, case, delete, exists, insert, select, update

from transship.catalog.engine import Catalog
from transship.catalog.images import announce_change, get_image, set_properties
from transship.catalog.leases import Lease, is_held, prove_lease
from transship.catalog.notifications import announce_failed_store, announce_image, announce_store, is_wanted
from transship.catalog.schema import IMAGES, LOCATIONS, TARGETS, TASKS
from transship.domain.image import Image, ImageStatus
from transship.domain.notification import EventType

FINISHED: Final = ("written", "done")
"""States of a target whose store holds the whole object."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known about an image's final bytes.

    Attributes:
        size: bytes; virtual_size: bytes that a guest sees; None if the format has none.
        checksum: md5 as lower-case hex; None when switched off.
        os_hash_algo, os_hash_value: name and lower-case hex; None for data that were not hashed.
    """

    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    disk_format: str
    container_format: str


@dataclass(frozen=True, slots=True)
class Arriving:
    """Extra properties that are set together with an image's data.

    Attributes:
        properties: names and values.
        before: the image's properties when the import began; clients' changes since then are kept.
    """

    properties: Mapping[str, str]
    before: Mapping[str, str]


def open_targets(
    connection: Connection,
    image_id: str,
    task_id: str,
    targets: Sequence[str],
    *,
    keep_failed: bool = False,
    fresh: bool = False,
) -> None:
    """Record the stores that a new import writes, in order, replacing those of an earlier one.

    Args:
        keep_failed: keep stores that failed before and are not targets now listed as failed; for copies of
            an image that those stores still lack.
        fresh: no import of the image was requested before, so there is nothing to replace.
    """
    gone = TARGETS.c.image_id == image_id
    if keep_failed:
        gone &= TARGETS.c.store.in_(targets) | (TARGETS.c.state != "failed")
    if not fresh:
        connection.execute(delete(TARGETS).where(gone))
    rows = [
        {"image_id": image_id, "store": store, "position": n, "task_id": task_id, "state": "waiting", "error": ""}
        for n, store in enumerate(targets)
    ]
    connection.execute(insert(TARGETS), rows)


def targets_of(connection: Connection, task_id: str) -> tuple[str, ...]:
    """Return the stores that a task writes, in the requested order."""
    rows = connection.execute(select(TARGETS.c.store).where(TARGETS.c.task_id == task_id).order_by(TARGETS.c.position))
    return tuple(row.store for row in rows)


def failed_targets(connection: Connection, task_id: str) -> tuple[str, ...]:
    """Return the stores that a task could not write, in the requested order."""
    rows = connection.execute(
        select(TARGETS.c.store)
        .where(TARGETS.c.task_id == task_id, TARGETS.c.state == "failed")
        .order_by(TARGETS.c.position)
    )
    return tuple(row.store for row in rows)


def prepare_copies(catalog: Catalog, lease: Lease, stores: Sequence[str], now: datetime) -> None:
    """Record that stores are about to be written.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        which = TARGETS.c.store.in_(stores) & is_held(lease)
        begun = _change(connection, lease, which, ("waiting", "failed"), "uploading")
        if not begun:
            prove_lease(connection, lease)
        elif is_wanted(connection, EventType.IMAGE_PREPARE):
            image = get_image(connection, lease.image_id)
            for target in begun:
                announce_store(connection, EventType.IMAGE_PREPARE, image, target.store)


def copy_written(
    catalog: Catalog, lease: Lease, store: str, size: int, proof: str, now: datetime, *, url: str | None = None
) -> None:
    """Record that a store holds the whole object, which is not visible yet.

    Args:
        size: bytes stored.
        proof: the store's own statement about them.
        url: where they are; None: where the journal says.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    copy = (LOCATIONS.c.image_id == lease.image_id) & (LOCATIONS.c.store == store)
    elsewhere = {} if url is None else {"url": url}
    with catalog.write() as connection:
        stored = connection.execute(
            update(LOCATIONS)
            .where(copy, LOCATIONS.c.state != "active", is_held(lease))
            .values(state="stored", size=size, proof=proof, put_token=None, updated_at=now, **elsewhere)
        )
        if not stored.rowcount:
            prove_lease(connection, lease)
        after = case((_leaves_before_the_end(lease, store), "done"), else_="written")
        moved = _change(connection, lease, TARGETS.c.store == store, ("waiting", "uploading", "failed"), after)
        left = any(target.state == "done" for target in moved)
        if left and is_wanted(connection, EventType.IMAGE_UPLOAD, EventType.IMAGE_UPDATE):
            image = get_image(connection, lease.image_id)
            announce_store(connection, EventType.IMAGE_UPLOAD, image, store)
            announce_image(connection, EventType.IMAGE_UPDATE, image)


def write_again(connection: Connection, lease: Lease, store: str) -> None:
    """Record, in the transaction that gives up a hidden copy, that its store has to be written again.

    The store returns to the list of stores to write, and the copy is announced again.
    """
    target = (TARGETS.c.store == store) & TARGETS.c.state.in_(FINISHED)
    before = connection.execute(select(TARGETS.c.state).where(_own(lease), target)).scalar_one_or_none()
    if before is None:
        return
    _change(connection, lease, TARGETS.c.store == store, FINISHED, "uploading")
    if before == "done" and is_wanted(connection, EventType.IMAGE_PREPARE):
        announce_store(connection, EventType.IMAGE_PREPARE, get_image(connection, lease.image_id), store)


def copy_failed(catalog: Catalog, lease: Lease, store: str, reason: str, now: datetime, *, notice: str = "") -> None:
    """Record that a store could not be written; the sweep handles its journal row, if any.

    Args:
        reason: for the user.
        notice: the text of the notification; empty: the default one.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        # If all stores must succeed, an earlier attempt's copy may be done but hidden until the last one is written.
        shown = connection.execute(_visible(lease.image_id).where(LOCATIONS.c.store == store)).first() is not None
        before = ("waiting", "uploading", "written", *(() if shown else ("done",)))
        if _change(connection, lease, TARGETS.c.store == store, before, "failed", reason):
            announce_failed_store(connection, lease.image_id, lease.task_id, store, reason, notice)
            announce_change(connection, lease.image_id)
        _hand_over(connection, lease, store, now)


def withdraw_copies(catalog: Catalog, lease: Lease) -> None:
    """Start over with every target that does not show the image, because the copied data were wrong.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        lacking = (TARGETS.c.task_id == lease.task_id) & TARGETS.c.store.not_in(_visible(lease.image_id))
        connection.execute(update(TARGETS).where(lacking).values(state="waiting", error=""))


def activate_copies(
    catalog: Catalog, lease: Lease, stores: Sequence[str], facts: DataFacts, arriving: Arriving | None, now: datetime
) -> None:
    """Show verified copies; the first one makes the image active.

    Args:
        stores: the written stores.
        facts: of the data; only written when the image becomes active.
        arriving: properties that are set together with the data.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        image = show_copies(connection, lease, TARGETS.c.store.in_(stores), facts, arriving, now)
        if image is not None:
            announce_image(connection, EventType.IMAGE_UPDATE, image)


def show_copies(
    connection: Connection,
    lease: Lease,
    which: ColumnElement[bool],
    facts: DataFacts,
    arriving: Arriving | None,
    now: datetime,
) -> Image | None:
    """Make written copies visible, and an image that is being imported active.

    All in the caller's transaction, which has proven the lease.

    Args:
        which: condition for the targets whose copies were written.

    Returns:
        The image as it is then; None if nobody listens.
    """
    written = select(TARGETS.c.store).where(_own(lease), which)
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.image_id == lease.image_id, LOCATIONS.c.store.in_(written), LOCATIONS.c.state == "stored")
        .values(state="active", updated_at=now)
    )
    shown = _change(connection, lease, which, ("waiting", "uploading", "written"), "done")
    # An image that has data already keeps its facts; an image deactivated meanwhile stays deactivated.
    became_active = connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == lease.image_id, IMAGES.c.status == ImageStatus.IMPORTING)
        .values(status=ImageStatus.ACTIVE, updated_at=now, **asdict(facts))
    ).rowcount
    if not became_active:
        connection.execute(update(IMAGES).where(IMAGES.c.id == lease.image_id).values(updated_at=now))
    elif arriving is not None and arriving.properties:
        _take_over(connection, lease.image_id, arriving)
    if not is_wanted(connection, EventType.IMAGE_UPLOAD, EventType.IMAGE_ACTIVATE, EventType.IMAGE_UPDATE):
        return None
    # The lease may have been given back, but the import goes on until this transaction ends.
    image = replace(get_image(connection, lease.image_id), import_task=lease.task_id)
    for target in shown:
        announce_store(connection, EventType.IMAGE_UPLOAD, image, target.store)
    if became_active:
        announce_image(connection, EventType.IMAGE_ACTIVATE, image)
    return image


def _take_over(connection: Connection, image_id: str, arriving: Arriving) -> None:
    now, before = get_image(connection, image_id).properties, arriving.before
    untouched = {name: value for name, value in arriving.properties.items() if now.get(name) == before.get(name)}
    if untouched:
        set_properties(connection, image_id, untouched)


def end_targets(connection: Connection, lease: Lease, failed: Mapping[str, str]) -> None:
    """Record, in the transaction that completes an import, which optional stores failed, and why."""
    for store, reason in failed.items():
        before = ("waiting", "uploading", "written", "failed")
        _change(connection, lease, TARGETS.c.store == store, before, "failed", reason)


def fail_targets(connection: Connection, image_id: str, task_id: str, message: str, failed: Mapping[str, str]) -> None:
    """Record, in the transaction that fails an import, that copies that are not visible were not written.

    Args:
        message: reason for stores that did not fail themselves.
        failed: reason by store id, for those that did.
    """
    lacking = (TARGETS.c.task_id == task_id) & TARGETS.c.store.not_in(_visible(image_id))
    connection.execute(
        update(TARGETS).where(lacking, TARGETS.c.state != "failed").values(state="failed", error=message)
    )
    for store, reason in failed.items():
        connection.execute(update(TARGETS).where(lacking, TARGETS.c.store == store).values(error=reason))


def _visible(image_id: str) -> Select[tuple[str]]:
    return select(LOCATIONS.c.store).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.state == "active")


def _own(lease: Lease) -> ColumnElement[bool]:
    return (TARGETS.c.image_id == lease.image_id) & (TARGETS.c.task_id == lease.task_id)


def _change(
    connection: Connection,
    lease: Lease,
    which: ColumnElement[bool],
    before: Sequence[str],
    after: str | ColumnElement[str],
    error: str = "",
) -> list[Row[Any]]:
    """Change targets that are in one of the allowed states; return the changed ones, in the requested order."""
    moved = connection.execute(
        update(TARGETS)
        .where(_own(lease), TARGETS.c.state.in_(before), which)
        .values(state=after, error=error)
        .returning(TARGETS)
    )
    return sorted(moved, key=lambda target: target.position)


def _leaves_before_the_end(lease: Lease, store: str) -> ColumnElement[bool]:
    """Return the condition that all stores must succeed and some are not written yet; false for uploads."""
    others = TARGETS.alias("others")
    lacking = exists().where(
        others.c.task_id == lease.task_id,
        others.c.store != store,
        others.c.state.in_(["waiting", "uploading", "written"]),
    )
    return exists().where(TASKS.c.id == lease.task_id, TASKS.c.strict.is_(True), lacking)


def _hand_over(connection: Connection, lease: Lease, store: str, now: datetime) -> None:
    """Mark the remains of a failed copy for removal."""
    connection.execute(
        update(LOCATIONS)
        .where(
            LOCATIONS.c.image_id == lease.image_id,
            LOCATIONS.c.store == store,
            LOCATIONS.c.state.in_(["uploading", "stored"]),
        )
        .values(state="deleting", updated_at=now)
    )
