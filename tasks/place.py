"""Write the sealed file to one store, and take it back."""

from __future__ import annotations

from typing import Final

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import may_pass_next_time
from tasks.session import ImportSession, current, utc_now
from tasks.staged_files import Staged
from tasks.store_slots import store_slot
from tasks.stores import store_driver
from transship.catalog.copies import set_target
from transship.catalog.journal import (
    close_location,
    drop_location,
    find_location,
    forget_location,
    mark_deleting,
    open_location,
)
from transship.domain.errors import AlreadyStored, CopyBeingRemoved, ObjectMissing, StoredDiffers, TransferFailed
from transship.domain.staged import StagedFile
from transship.stores.base import StoreDriver

TURN_S: Final = 0.5
"""Seconds between two looks whether housekeeping has ended with a copy."""

log = structlog.get_logger("transship.place")


@task(name="place", task_run_name="place {store}", cache_policy=NO_CACHE, retry_condition_fn=may_pass_next_time)
def place(store: str, staged: Staged) -> str:
    """Write the image's data to one store and return the location URL.

    The journal names the copy before the store sees a byte. A copy that an earlier attempt left
    unfinished, or finished for other bytes, is replaced; an object that is not ours is left alone.

    Args:
        store: store id.
        staged: final sealed file.

    Raises:
        TransferFailed: the store did not take it; nothing of this attempt is left in it.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.store(store, "uploading", 0, staged.size)
    try:
        driver = store_driver(store, session.settings)
        driver.check()
        url = _clear_way(session, driver, store)
        open_location(session.catalog, session.lease, store, url, utc_now())
        set_target(session.catalog, session.lease, store, "uploading")
        driver.discard_temporaries(session.lease.image_id, session.lease.epoch)
        with store_slot(session, store):
            stored = driver.put(
                session.lease.image_id,
                StagedFile(session.staging.sealed(staged.name), staged.size, session.lease.epoch),
                lambda done_bytes: session.board.store(store, "uploading", done_bytes, staged.size),
                session.stop,
            )
        if session.settings.imports.verify_stores:
            _verify(driver, store, stored.url, staged.size)
        close_location(session.catalog, session.lease, store, stored.size, stored.proof, utc_now())
        set_target(session.catalog, session.lease, store, "done")
    except AlreadyStored as foreign:
        session.board.store(store, "failed", error=str(foreign))
        # Somebody else's object is in its place: the row must never lead a sweep to it.
        forget_location(session.catalog, session.lease, store)
        raise
    except TransferFailed as failed:
        session.board.store(store, "failed", error=str(failed))
        raise
    session.board.store(store, "done", staged.size, staged.size)
    return stored.url


def _clear_way(session: ImportSession, driver: StoreDriver, store: str) -> str:
    """Remove what an earlier attempt of this image left in the store; return the URL to write.

    Raises:
        AlreadyStored: the store holds an object of that name that no journal row names.
    """
    image_id = session.lease.image_id
    with session.catalog.read() as connection:
        earlier = find_location(connection, image_id, store)
    if earlier is not None:
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
    patience = int(session.settings.lease.ttl_s / TURN_S) + 1
    for tries_left in range(patience, -1, -1):
        try:
            unplace(session, store)
            return
        except CopyBeingRemoved:
            if not tries_left:
                raise
        session.stop.wait(TURN_S)


def _verify(driver: StoreDriver, store: str, url: str, size: int) -> None:
    found = driver.size(url)
    if found != size:
        raise StoredDiffers(store, f"{size} bytes", f"{found} bytes")


def unplace(session: ImportSession, store: str) -> None:
    """Remove a store's copy of the image, if the journal names one.

    Raises:
        TransferFailed: the store does not allow it now; the row stays ``deleting`` for housekeeping.
        LockLost: another worker took over; nothing was removed.
        ImportInterrupted: the catalogue does not say whether; the row stays ``deleting`` for housekeeping.
    """
    image_id = session.lease.image_id
    with session.catalog.read() as connection:
        row = find_location(connection, image_id, store)
    if row is None:
        return
    mark_deleting(session.catalog, session.lease, store, utc_now())
    driver = store_driver(store, session.settings)
    driver.discard_temporaries(image_id, session.lease.epoch + 1)
    # Another worker may have written its own copy there while this one slept.
    session.fence.check()
    driver.delete(row.url)
    with session.catalog.write() as connection:
        drop_location(connection, image_id, store)
    log.info("copy removed", store=store)
