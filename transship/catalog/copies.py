"""The copies of one import: which stores it writes, and how far each of them is, one transaction a step.

A target is *waiting*, *uploading* (prepared), *written* (its store holds the whole object), *done*, or
*failed*. Clients see the stores that are none of the last two in ``os_glance_importing_to_stores``, the
failed ones in ``os_glance_failed_import``. A copy that may be there without the others is done when it
is visible; where all stores must succeed, nothing is visible before the end, and a copy is done when it
is written. The list is empty at the end alone: the last copy stays *written* until then. A hidden copy
that a further attempt cannot use is *uploading* again as soon as it is given up.

Each step returns or changes something once, however often it is repeated after a crash, so that
whoever tells others of it tells them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, delete, exists, insert, select, update

from transship.catalog.engine import Catalog
from transship.catalog.images import get_image, set_properties
from transship.catalog.leases import Lease, prove_lease
from transship.catalog.notifications import announce_failed_store, announce_image, announce_store
from transship.catalog.schema import IMAGES, LOCATIONS, TARGETS, TASKS
from transship.domain.image import Image, ImageStatus
from transship.domain.notification import EventType


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of an image's final bytes.

    Attributes:
        size: bytes; virtual_size: bytes that a guest sees, None where the format has no such thing.
        checksum: md5 as lower-case hex, None when switched off.
        os_hash_algo, os_hash_value: name and lower-case hex.
    """

    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str
    os_hash_value: str
    disk_format: str
    container_format: str


@dataclass(frozen=True, slots=True)
class Arriving:
    """Extra properties that come with an image's data.

    Attributes:
        properties: names and values.
        before: the image's properties when the import began; what a client changed since stays as the client set it.
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
    """Note the stores that a new import is to write, in order; what an earlier one noted goes.

    Args:
        keep_failed: stores that failed before, and that are no targets now, stay listed as failed: for copies of
            an image that goes on lacking them.
        fresh: no import of the image was asked for before, so nothing has to go.
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
    """Return the stores that a task is to write, in the order asked for."""
    rows = connection.execute(select(TARGETS.c.store).where(TARGETS.c.task_id == task_id).order_by(TARGETS.c.position))
    return tuple(row.store for row in rows)


def failed_targets(connection: Connection, task_id: str) -> tuple[str, ...]:
    """Return the stores that a task could not write, in the order asked for."""
    rows = connection.execute(
        select(TARGETS.c.store)
        .where(TARGETS.c.task_id == task_id, TARGETS.c.state == "failed")
        .order_by(TARGETS.c.position)
    )
    return tuple(row.store for row in rows)


def prepare_copies(catalog: Catalog, lease: Lease, stores: Sequence[str], now: datetime) -> None:
    """Note, store by store, that they are about to be written.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        begun = [store for store in stores if _change(connection, lease, store, ("waiting", "failed"), "uploading")]
        if begun:
            image = get_image(connection, lease.image_id)
            for store in begun:
                announce_store(connection, EventType.IMAGE_PREPARE, image, store)


def copy_written(catalog: Catalog, lease: Lease, store: str, size: int, proof: str, now: datetime) -> None:
    """Note that a store holds the whole object; nobody sees it yet.

    Args:
        size: bytes stored.
        proof: what the store says of them.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(
            update(LOCATIONS)
            .where(LOCATIONS.c.image_id == lease.image_id, LOCATIONS.c.store == store, LOCATIONS.c.state != "active")
            .values(state="stored", size=size, proof=proof, put_token=None, updated_at=now)
        )
        leaves_now = _leaves_before_the_end(connection, lease, store)
        after = "done" if leaves_now else "written"
        if _change(connection, lease, store, ("waiting", "uploading", "failed"), after) and leaves_now:
            image = get_image(connection, lease.image_id)
            announce_store(connection, EventType.IMAGE_UPLOAD, image, store)
            announce_image(connection, EventType.IMAGE_UPDATE, image)


def write_again(connection: Connection, lease: Lease, store: str) -> None:
    """Note, in the transaction that gives a hidden copy up, that its store lacks the image again until it is rewritten.

    A copy that had left the list of stores to write comes back to it, and is told of anew.
    """
    finished = ("written", "done")
    own = (TARGETS.c.image_id == lease.image_id) & (TARGETS.c.task_id == lease.task_id) & (TARGETS.c.store == store)
    before = connection.execute(select(TARGETS.c.state).where(own, TARGETS.c.state.in_(finished))).scalar_one_or_none()
    if before is None:
        return
    _change(connection, lease, store, finished, "uploading")
    if before == "done":
        announce_store(connection, EventType.IMAGE_PREPARE, get_image(connection, lease.image_id), store)


def copy_failed(catalog: Catalog, lease: Lease, store: str, reason: str, now: datetime, *, notice: str = "") -> None:
    """Note that a store could not be written; its journal row, if any, is the sweep's.

    Args:
        reason: for the user.
        notice: the text of the notification, if there are better words than the common ones.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        # An earlier attempt's copy may be done and hidden: where all stores must succeed, before the last of them.
        shown = connection.execute(_visible(lease.image_id).where(LOCATIONS.c.store == store)).first() is not None
        before = ("waiting", "uploading", "written", *(() if shown else ("done",)))
        if _change(connection, lease, store, before, "failed", reason):
            announce_failed_store(connection, lease.image_id, lease.task_id, store, reason, notice)
            announce_image(connection, EventType.IMAGE_UPDATE, get_image(connection, lease.image_id))
        _hand_over(connection, lease, store, now)


def withdraw_copies(catalog: Catalog, lease: Lease) -> None:
    """Begin anew with every target that does not show the image: what was copied was not the image.

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
    """Show copies whose bytes were proven, and make the image active with the first of them.

    Args:
        stores: stores that were written.
        facts: of the data; written when the image becomes active, and only then.
        arriving: properties that become the image's together with its data.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        image = show_copies(connection, lease, stores, facts, arriving, now)
        announce_image(connection, EventType.IMAGE_UPDATE, image)


def show_copies(
    connection: Connection,
    lease: Lease,
    stores: Sequence[str],
    facts: DataFacts,
    arriving: Arriving | None,
    now: datetime,
) -> Image:
    """Make written copies visible, and an image that is being imported active; return the image as it is then.

    All in the caller's transaction, which has proven the lease.
    """
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.image_id == lease.image_id, LOCATIONS.c.store.in_(stores), LOCATIONS.c.state == "stored")
        .values(state="active", updated_at=now)
    )
    shown = [
        store for store in stores if _change(connection, lease, store, ("waiting", "uploading", "written"), "done")
    ]
    # An image that has data already keeps its facts, and one that was deactivated meanwhile stays so.
    became_active = connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == lease.image_id, IMAGES.c.status == ImageStatus.IMPORTING)
        .values(status=ImageStatus.ACTIVE, updated_at=now, **asdict(facts))
    ).rowcount
    if not became_active:
        connection.execute(update(IMAGES).where(IMAGES.c.id == lease.image_id).values(updated_at=now))
    elif arriving is not None and arriving.properties:
        _take_over(connection, lease.image_id, arriving)
    image = get_image(connection, lease.image_id)
    for store in shown:
        announce_store(connection, EventType.IMAGE_UPLOAD, image, store)
    if became_active:
        announce_image(connection, EventType.IMAGE_ACTIVATE, image)
    return image


def _take_over(connection: Connection, image_id: str, arriving: Arriving) -> None:
    now, before = get_image(connection, image_id).properties, arriving.before
    untouched = {name: value for name, value in arriving.properties.items() if now.get(name) == before.get(name)}
    if untouched:
        set_properties(connection, image_id, untouched)


def end_targets(connection: Connection, lease: Lease, failed: Mapping[str, str]) -> None:
    """Note, in the transaction that ends an import well, which stores were allowed to fail, and why."""
    for store, reason in failed.items():
        _change(connection, lease, store, ("waiting", "uploading", "written", "failed"), "failed", reason)


def fail_targets(connection: Connection, image_id: str, task_id: str, message: str, failed: Mapping[str, str]) -> None:
    """Note, in the transaction that fails an import, that what nobody can see was not written.

    Args:
        message: reason of the stores that did not fail by themselves.
        failed: reason by store id, of those that did.
    """
    lacking = (TARGETS.c.task_id == task_id) & TARGETS.c.store.not_in(_visible(image_id))
    connection.execute(
        update(TARGETS).where(lacking, TARGETS.c.state != "failed").values(state="failed", error=message)
    )
    for store, reason in failed.items():
        connection.execute(update(TARGETS).where(lacking, TARGETS.c.store == store).values(error=reason))


def _visible(image_id: str) -> Select[tuple[str]]:
    return select(LOCATIONS.c.store).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.state == "active")


def _change(
    connection: Connection, lease: Lease, store: str, before: Sequence[str], after: str, error: str = ""
) -> bool:
    """Move a target on, if it stands where it may stand before; return whether it did."""
    moved = connection.execute(
        update(TARGETS)
        .where(
            TARGETS.c.image_id == lease.image_id,
            TARGETS.c.task_id == lease.task_id,
            TARGETS.c.store == store,
            TARGETS.c.state.in_(before),
        )
        .values(state=after, error=error)
    )
    return bool(moved.rowcount)


def _leaves_before_the_end(connection: Connection, lease: Lease, store: str) -> bool:
    """Return whether all stores must succeed and others are to be written yet. An upload serves no task: never."""
    others = exists().where(
        TARGETS.c.task_id == lease.task_id,
        TARGETS.c.store != store,
        TARGETS.c.state.in_(["waiting", "uploading", "written"]),
    )
    strict = select(TASKS.c.id).where(TASKS.c.id == lease.task_id, TASKS.c.strict.is_(True), others)
    return connection.execute(strict).first() is not None


def _hand_over(connection: Connection, lease: Lease, store: str, now: datetime) -> None:
    """Hand whatever a store may hold of a failed copy to removal."""
    connection.execute(
        update(LOCATIONS)
        .where(
            LOCATIONS.c.image_id == lease.image_id,
            LOCATIONS.c.store == store,
            LOCATIONS.c.state.in_(["uploading", "stored"]),
        )
        .values(state="deleting", updated_at=now)
    )
