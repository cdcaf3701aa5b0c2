"""Write the sealed file to one store, and take it back."""

from __future__ import annotations

from typing import Final

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from tasks.retrying import may_pass_next_time
from tasks.session import ImportSession, current
from tasks.staged_files import path_of
from tasks.store_rates import store_pace
from tasks.store_slots import store_slot
from tasks.stores import store_driver
from transship.catalog.copies import copy_written
from transship.catalog.journal import (
    LocationRow,
    drop_location,
    find_location,
    forget_location,
    mark_deleting,
    open_location,
)
from transship.domain.clock import utc_now
from transship.domain.errors import (
    AlreadyStored,
    CopyBeingRemoved,
    ImportStopped,
    ObjectMissing,
    StoredDiffers,
    TransferFailed,
)
from transship.domain.import_data import SealedFile
from transship.domain.staged import StagedFile
from transship.domain.task import wait_text
from transship.stores.base import StoreDriver

TURN_S: Final = 0.5
"""Seconds between two looks whether housekeeping has ended with a copy."""

log = structlog.get_logger("transship.place")


@task(name="place", task_run_name="place {store}", cache_policy=NO_CACHE, retry_condition_fn=may_pass_next_time)
def place(store: str, staged: SealedFile) -> str:
    """Write the image's data to one store and return the location URL.

    The journal names the copy before the store sees a byte. A copy that an earlier attempt finished
    from the same file is taken as it is; one that it left unfinished, or made from another file, is
    replaced; an object that is not ours is left alone.

    Args:
        store: store id.
        staged: final sealed file.

    Raises:
        TransferFailed: the store did not take it; nothing of this attempt is left in it.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    try:
        driver = store_driver(store, session.settings, session.catalog)
        url = _finished_before(session, driver, store, staged)
        skipped = url is not None
        if url is None:
            url = _write(session, driver, store, staged)
    except AlreadyStored as foreign:
        session.board.store(store, "failed", error=str(foreign))
        # Somebody else's object is in its place: the row must never lead a sweep to it.
        forget_location(session.catalog, session.lease, store)
        raise
    except ImportStopped:
        raise
    except TransferFailed as failed:
        session.board.store(store, "failed", error=str(failed))
        raise
    session.board.store(store, "done", staged.size, staged.size)
    if skipped:
        # Prefect unwraps a returned state; its name tells people that nothing was written.
        return Completed(name="Skipped", message="written by an earlier attempt", data=url)  # type: ignore[return-value]  # see above
    return url


def _finished_before(session: ImportSession, driver: StoreDriver, store: str, staged: SealedFile) -> str | None:
    """Return the URL of a copy that an earlier attempt finished from this very file and that is still there."""
    row = _row(session, store)
    if row is None or row.state != "stored" or row.copied_from != staged.name or row.size != staged.size:
        return None
    try:
        if driver.size(row.url) != staged.size:
            return None
    except ObjectMissing:
        return None
    copy_written(session.catalog, session.lease, store, staged.size, row.proof, utc_now())
    return row.url


def _write(session: ImportSession, driver: StoreDriver, store: str, staged: SealedFile) -> str:
    session.board.store(store, "uploading", 0, staged.size)
    driver.check()
    url = _clear_way(session, driver, store)
    session.board.store(store, "uploading", 0, staged.size)
    open_location(session.catalog, session.lease, store, url, utc_now(), copied_from=staged.name)
    driver.discard_temporaries(session.lease.image_id, session.lease.epoch)
    source = StagedFile(
        path_of(session, staged),
        staged.size,
        session.lease.epoch,
        stored=bool(staged.path),
        pace=store_pace(session, store),
    )
    with store_slot(session, store):
        stored = driver.put(
            session.lease.image_id,
            source,
            lambda done_bytes: session.board.store(store, "uploading", done_bytes, staged.size),
            session.stop,
        )
    if session.settings.imports.verify_stores:
        _verify(driver, store, stored.url, staged.size)
    copy_written(session.catalog, session.lease, store, stored.size, stored.proof, utc_now())
    return stored.url


def _clear_way(session: ImportSession, driver: StoreDriver, store: str) -> str:
    """Remove what an earlier attempt of this image left in the store; return the URL to write.

    Raises:
        AlreadyStored: the store holds an object of that name that no journal row names.
    """
    image_id = session.lease.image_id
    if _row(session, store) is not None:
        _unplace_in_turn(session, store)
    url = driver.url_of(image_id)
    try:
        driver.size(url)
    except ObjectMissing:
        return url
    raise AlreadyStored(store, image_id)


def _unplace_in_turn(session: ImportSession, store: str) -> None:
    """Remove an earlier copy, once housekeeping no longer does: its claim lasts as long as a lease at most.

    Raises:
        CopyBeingRemoved: it was at it for longer than that.
    """
    patience, began = int(session.settings.lease.ttl_s / TURN_S) + 1, utc_now()
    for tries_left in range(patience, -1, -1):
        try:
            unplace(session, store)
            return
        except CopyBeingRemoved:
            if not tries_left:
                raise
        remedy = "it ends by itself within a minute"
        waits = wait_text("the removal of an earlier copy, which housekeeping has begun,", began, remedy)
        session.board.store(store, "waiting", waits=waits)
        session.stop.wait(TURN_S)


def _verify(driver: StoreDriver, store: str, url: str, size: int) -> None:
    found = driver.size(url)
    if found != size:
        raise StoredDiffers(store, f"{size} bytes", f"{found} bytes")


def unplace(session: ImportSession, store: str) -> None:
    """Remove a store's copy of the image, if the journal names one that clients do not see.

    Raises:
        TransferFailed: the store does not allow it now; the row stays ``deleting`` for housekeeping.
        LockLost: another worker took over; nothing was removed.
        ImportInterrupted: the catalogue does not say whether; the row stays ``deleting`` for housekeeping.
    """
    image_id = session.lease.image_id
    row = _row(session, store)
    if row is None or row.state == "active":
        return
    mark_deleting(session.catalog, session.lease, store, utc_now())
    driver = store_driver(store, session.settings, session.catalog)
    driver.discard_temporaries(image_id, session.lease.epoch + 1)
    # Another worker may have written its own copy there while this one slept.
    session.fence.check()
    driver.delete(row.url)
    with session.catalog.write() as connection:
        drop_location(connection, image_id, store)
    log.info("copy removed", store=store)


def _row(session: ImportSession, store: str) -> LocationRow | None:
    with session.catalog.read() as connection:
        return find_location(connection, session.lease.image_id, store)
