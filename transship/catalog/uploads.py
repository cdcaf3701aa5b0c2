"""Uploads by clients, one transaction per step: begun, staged, stored, aborted, lost.

An upload holds the image's lease like an import, but has no task. While it runs, no other process
writes the image; if its process dies, the lease expires, and the keeper or the next upload frees the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from transship.catalog.copies import DataFacts
from transship.catalog.engine import Catalog
from transship.catalog.hosts import expect_host, is_gone
from transship.catalog.images import announce_change, get_image, lock_image
from transship.catalog.journal import staged_upload
from transship.catalog.leases import (
    Lease,
    LeaseState,
    free_lease,
    give_back_lease,
    lease_of,
    lock_lease,
    prove_lease,
    take_lease,
)
from transship.catalog.notifications import announce_failed_store, announce_image, announce_store, is_wanted
from transship.catalog.outbox import OutboxKind, post
from transship.catalog.quotas import refuse_claim
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, STAGED, TARGETS, TASKS
from transship.catalog.types import in_seconds
from transship.domain.errors import ImportRunning, StagedAlready, UploadIncomplete, UploadRunning, WrongStatus
from transship.domain.image import Image, ImageStatus
from transship.domain.notification import EventType
from transship.domain.quota import Claim
from transship.domain.staged import SOURCE_ROLE
from transship.domain.task import WAITS_FOR

SWEEP_KEY = "sweep"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in this process.

    Attributes:
        image: its record when the upload began.
        name: of the staged file that it may write.
    """

    image: Image
    lease: Lease
    name: str


def begin_upload(
    catalog: Catalog,
    image_id: str,
    status: ImageStatus,
    judge: Callable[[Image], None],
    *,
    owner: str,
    host: str,
    ttl_s: float,
    now: datetime,
    claim: Claim | None = None,
) -> Upload:
    """Begin an upload of an image's data in this process; the journal names the file before it exists.

    Files left by a lost upload become scrap, and so do data on a lost host, whose next sweep removes them.

    Args:
        status: ``uploading`` for data to be imported, ``saving`` for data written directly to a store.
        judge: refuses what the caller may not do, given the current image.
        owner: this process, for display.
        host: the host whose staging receives the data.
        claim: what the upload uses of its project's quota.

    Raises:
        ImageNotFound, ImportRunning, UploadRunning, StagedAlready, WrongStatus, ProjectOverQuota: nothing was changed.
    """
    with catalog.write() as connection:
        refuse_claim(connection, claim)
        image = lock_image(connection, image_id)
        judge(image)
        lease = lease_of(connection, image_id)
        _refuse_unless_free(image, lease, status, out_of_reach=_out_of_reach(connection, image))
        expect_host(connection, host)
        _clear(connection, image_id, now)
        taken = take_lease(connection, image_id, None, owner, ttl_s)
        name = f"{image_id}.{taken.epoch}.{SOURCE_ROLE}"
        connection.execute(
            insert(STAGED).values(
                name=name,
                host=host,
                image_id=image_id,
                task_id="",
                epoch=taken.epoch,
                role=SOURCE_ROLE,
                state="part",
                reserved_bytes=0,
                source_key="",
                created_at=now,
            )
        )
        connection.execute(update(IMAGES).where(IMAGES.c.id == image_id).values(status=status, updated_at=now))
        announce_change(connection, image_id)
        return Upload(image, taken, name)


def _out_of_reach(connection: Connection, image: Image) -> bool:
    """Return whether the image's uploaded data are on a lost host."""
    try:
        return image.status is ImageStatus.UPLOADING and is_gone(connection, staged_upload(connection, image.id).host)
    except UploadIncomplete:
        return False


def _refuse_unless_free(image: Image, lease: LeaseState, status: ImageStatus, *, out_of_reach: bool) -> None:
    if image.import_task is not None:
        raise ImportRunning(image.id, image.import_task)
    if lease.live:
        raise UploadRunning(image.id)
    lost = lease.state == "held"
    if image.status is ImageStatus.QUEUED or lost or out_of_reach:
        return
    if image.status is ImageStatus.UPLOADING:
        raise StagedAlready(image.id)
    action = "stage" if status is ImageStatus.UPLOADING else "file"
    raise WrongStatus(image.id, image.status, ImageStatus.QUEUED, action)


def finish_stage(catalog: Catalog, upload: Upload, size: int, digests: Mapping[str, str] | None, now: datetime) -> None:
    """Record that the data are complete in staging, and free the image for their import.

    Args:
        size: bytes.
        digests: of the data, by algorithm; None if none were computed.

    Raises:
        LockLost: the image was deleted or taken over; nothing was written.
    """
    lease = upload.lease
    with catalog.write() as connection:
        give_back_lease(connection, lease)
        connection.execute(
            update(STAGED)
            .where(STAGED.c.image_id == lease.image_id, STAGED.c.name == upload.name)
            .values(state="sealed", size=size, reserved_bytes=0, digests=None if digests is None else dict(digests))
        )
        connection.execute(update(IMAGES).where(IMAGES.c.id == lease.image_id).values(size=size, updated_at=now))
        announce_change(connection, lease.image_id)


def prepare_upload(catalog: Catalog, lease: Lease, store: str) -> None:
    """Announce that an upload's data are about to be written to a store.

    Raises:
        LockLost: the image was deleted or taken over.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        if is_wanted(connection, EventType.IMAGE_PREPARE):
            announce_store(connection, EventType.IMAGE_PREPARE, get_image(connection, lease.image_id), store)


def note_wait(catalog: Catalog, lease: Lease, text: str | None) -> None:
    """Show on the image why its upload waits.

    Args:
        text: from `wait_text`; None when the upload continues.

    Raises:
        LockLost: the image was deleted or taken over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(update(IMAGES).where(IMAGES.c.id == lease.image_id).values(import_message=text))


def refuse_upload(catalog: Catalog, lease: Lease, store: str, notice: str) -> None:
    """Announce that an upload's data could not be written to a store.

    Raises:
        LockLost: the image was deleted or taken over.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        announce_failed_store(connection, lease.image_id, None, store, notice, notice)


def finish_upload(catalog: Catalog, lease: Lease, store: str, facts: DataFacts, now: datetime) -> None:
    """Make the image active with the copy in its store.

    Stores that failed in an earlier import are forgotten: a Retry of that import must not write other data to them.

    Raises:
        LockLost: the image was deleted or taken over; nothing was written.
    """
    with catalog.write() as connection:
        give_back_lease(connection, lease)
        connection.execute(delete(TARGETS).where(TARGETS.c.image_id == lease.image_id))
        connection.execute(
            update(LOCATIONS)
            .where(LOCATIONS.c.image_id == lease.image_id, LOCATIONS.c.state == "stored")
            .values(state="active", updated_at=now)
        )
        connection.execute(
            update(IMAGES)
            .where(IMAGES.c.id == lease.image_id)
            .values(status=ImageStatus.ACTIVE, import_message=None, updated_at=now, **asdict(facts))
        )
        connection.execute(
            update(STAGED).where(STAGED.c.image_id == lease.image_id).values(state="scrap", reserved_bytes=0)
        )
        if is_wanted(connection, EventType.IMAGE_UPLOAD, EventType.IMAGE_ACTIVATE, EventType.IMAGE_UPDATE):
            image = get_image(connection, lease.image_id)
            announce_store(connection, EventType.IMAGE_UPLOAD, image, store)
            announce_image(connection, EventType.IMAGE_ACTIVATE, image)
            announce_image(connection, EventType.IMAGE_UPDATE, image)


def abandon_upload(catalog: Catalog, lease: Lease, now: datetime) -> None:
    """Abort an upload: the image is queued again, and the received data become scrap.

    Raises:
        LockLost: the image was deleted or taken over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        _abandon(connection, lease.image_id, now)


def end_lost_uploads(catalog: Catalog, now: datetime) -> list[str]:
    """Free the images whose upload lost its process; return their ids."""
    lost = (LEASES.c.state == "held") & LEASES.c.task_id.is_(None) & (LEASES.c.expires_at < in_seconds(0))
    with catalog.statement() as connection:
        found = list(connection.execute(select(LEASES.c.image_id).where(lost)).scalars())
    ended = []
    for image_id in found:
        with catalog.write() as connection:
            lease = lock_lease(connection, image_id)
            # Check again: it may have been renewed or taken over meanwhile.
            if lease.state != "held" or lease.task_id is not None or not lease.expired:
                continue
            _abandon(connection, image_id, now)
            post(connection, OutboxKind.SWEEP, SWEEP_KEY, None)
            ended.append(image_id)
    return ended


def give_up_uploads(catalog: Catalog, failed_before: datetime, now: datetime) -> list[str]:
    """Free images whose imports failed so long ago that their uploaded data have expired; return their ids.

    Uploaded data that were never imported are kept as long as their image.

    Args:
        failed_before: imports that ended after this time keep their data.
    """
    ended_at = func.max(TASKS.c.ended_at)
    tried = (
        select(STAGED.c.image_id)
        .join(TASKS, (TASKS.c.image_id == STAGED.c.image_id) & (TASKS.c.ended_at > STAGED.c.created_at))
        .join(IMAGES, IMAGES.c.id == STAGED.c.image_id)
        .join(LEASES, LEASES.c.image_id == STAGED.c.image_id)
        .where(IMAGES.c.status == ImageStatus.UPLOADING, LEASES.c.state == "free")
        .group_by(STAGED.c.image_id)
        .having(ended_at < failed_before)
    )
    with catalog.statement() as connection:
        found = list(connection.execute(tried).scalars())
    given_up = []
    for image_id in found:
        with catalog.write() as connection:
            lease = lock_lease(connection, image_id)
            if lease.state != "free" or image_id not in connection.execute(tried).scalars():
                continue
            _abandon(connection, image_id, now)
            post(connection, OutboxKind.SWEEP, SWEEP_KEY, None)
            given_up.append(image_id)
    return given_up


def _abandon(connection: Connection, image_id: str, now: datetime) -> None:
    _clear(connection, image_id, now)
    connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == image_id)
        .values(status=ImageStatus.QUEUED, size=None, virtual_size=None, updated_at=now)
    )
    # The message of an upload that was ended while it waited for its store is still there.
    connection.execute(update(IMAGES).where(IMAGES.c.id == image_id, _says_that_it_waits()).values(import_message=None))
    free_lease(connection, image_id)
    announce_change(connection, image_id)


def waiting_uploads(connection: Connection) -> list[tuple[str, str]]:
    """Return the images whose uploads wait for their store, with the reasons, oldest first."""
    rows = connection.execute(
        select(IMAGES.c.id, IMAGES.c.import_message)
        .where(IMAGES.c.status == ImageStatus.SAVING, _says_that_it_waits())
        .order_by(IMAGES.c.updated_at, IMAGES.c.id)
    )
    return [(row.id, row.import_message) for row in rows]


def _says_that_it_waits() -> ColumnElement[bool]:
    return IMAGES.c.import_message.startswith(WAITS_FOR, autoescape=True)


def _clear(connection: Connection, image_id: str, now: datetime) -> None:
    """Mark an image's staged files and unfinished copies for removal."""
    scrap = update(STAGED).where(STAGED.c.image_id == image_id).values(state="scrap", reserved_bytes=0)
    if connection.execute(scrap).rowcount:
        post(connection, OutboxKind.SWEEP, SWEEP_KEY, None)
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.state.in_(["uploading", "stored"]))
        .values(state="deleting", updated_at=now)
    )


def is_scrap(connection: Connection, name: str, host: str) -> bool:
    """Return whether a staged file is unneeded: it was scrapped, or the journal no longer names it."""
    state = connection.execute(select(STAGED.c.state).where(STAGED.c.name == name, STAGED.c.host == host))
    return state.scalar_one_or_none() in (None, "scrap")


def drop_scrap(connection: Connection, name: str, host: str) -> None:
    """Forget a scrapped staged file that was removed."""
    connection.execute(delete(STAGED).where(STAGED.c.name == name, STAGED.c.host == host, STAGED.c.state == "scrap"))
