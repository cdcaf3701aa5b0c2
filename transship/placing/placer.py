"""Write one store's copy of an image, and take it back, for the holder of the image's lease.

The journal names a copy before its store sees a byte, and forgets it after the last one is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import structlog

from config.settings import Settings
from transship.catalog.copies import copy_written
from transship.catalog.engine import Catalog
from transship.catalog.journal import (
    EarlierCopy,
    LocationRow,
    drop_location,
    earlier_copy,
    find_location,
    forget_location,
    keep_put_token,
    mark_deleting,
    open_location,
    resume_location,
)
from transship.catalog.leases import Lease
from transship.domain.clock import utc_now
from transship.domain.errors import AlreadyStored, CopyBeingRemoved, ObjectMissing
from transship.domain.fence import Fence
from transship.domain.import_data import Copy, Done, Outcome, SealedFile, Skipped
from transship.domain.staged import StagedFile, StoredSource
from transship.domain.stop import StopToken
from transship.domain.waiting import CopyWatch, wait_until
from transship.placing.rates import store_pace
from transship.placing.verification import verify_copy, verify_stored_copy
from transship.stores.base import StoredObject, StoreDriver, Unfinished

TURN_S: Final = 0.5
"""Seconds between checks whether housekeeping has finished with a copy."""

Slots = Callable[[str, StopToken, CopyWatch], AbstractContextManager[None]]
"""Holds a slot of a store for the duration of a block. It may delay a copy; it raises only the stop token's errors."""

log = structlog.get_logger("transship.place")


@dataclass(frozen=True, slots=True)
class Placer:
    """Writes and takes back the copies of one image.

    Attributes:
        lease: of the image; each write to the catalogue proves it.
        fence: checked before each irreversible step.
        stop: tells when the work must end.
        using: opens a store's driver for the duration of a block; raises TransferFailed if the store is unusable.
        slots: limit how many copies are written to a store at the same time.
    """

    settings: Settings
    catalog: Catalog
    lease: Lease
    fence: Fence
    stop: StopToken
    using: Callable[[str], AbstractContextManager[StoreDriver]]
    slots: Slots

    def place(self, store: str, file: SealedFile, path: Path, watch: CopyWatch) -> Outcome[Copy]:
        """Write a file to a store, or have it copy another store's object, within the store's rate and slots.

        A copy that an earlier attempt finished from the same file is kept. An unfinished copy, or one made from another
        file, is replaced. An object that is not ours is left alone.

        Args:
            path: of the file on this host; not looked at if it is an object.

        Raises:
            CopyDiffers: a copy of the object is not what its proof says; nothing of it is left.
            AlreadyStored: the store holds an object of that name that is not ours; no journal row is left.
            TransferFailed: the copy failed; the journal names what may be left in the store.
            LockLost, ImportStopped: the work must end.
        """
        with self.using(store) as driver:
            earlier = self._earlier(store)
            finished = self._finished_before(driver, store, file, earlier.row)
            if finished is not None:
                return Skipped(Copy(store, finished.url), "written by an earlier attempt")
            watch.advance(0)
            try:
                return Done(Copy(store, self._write(driver, store, file, path, watch, earlier).url))
            except AlreadyStored:
                # The name is taken by someone else's object: no row may lead a sweep to it.
                forget_location(self.catalog, self.lease, store)
                raise

    def take_back(self, store: str) -> None:
        """Remove a store's copy if the journal names one that clients do not see.

        Raises:
            TransferFailed: the store cannot remove it now; the row stays ``deleting`` for housekeeping.
            LockLost: another worker took over; nothing was removed.
            ImportInterrupted: the catalogue cannot confirm the lease; the row stays ``deleting`` for housekeeping.
        """
        row = self._give_up(store)
        if row is not None:
            with self.using(store) as driver:
                self._remove(driver, row)

    def _give_up(self, store: str) -> LocationRow | None:
        """Mark a store's copy for removal and return it; None if clients see it, or there is none."""
        with self.catalog.statement() as connection:
            row = find_location(connection, self.lease.image_id, store)
        if row is None or row.state == "active":
            return None
        mark_deleting(self.catalog, self.lease, store, utc_now())
        return row

    def _remove(self, driver: StoreDriver, row: LocationRow) -> None:
        driver.discard_temporaries(row.image_id, self.lease.epoch + 1, row.put_token)
        # Another worker may have written its own copy there while this one slept.
        self.fence.check()
        driver.delete(row.url)
        with self.catalog.statement() as connection:
            drop_location(connection, row.image_id, row.store)
        log.info("copy removed", image_id=row.image_id, store=row.store)

    def _earlier(self, store: str) -> EarlierCopy:
        with self.catalog.statement() as connection:
            return earlier_copy(connection, self.lease, store)

    def _finished_before(
        self, driver: StoreDriver, store: str, file: SealedFile, row: LocationRow | None
    ) -> LocationRow | None:
        """Return the copy that an earlier attempt finished from this very file, if it is still there."""
        if row is None or row.state != "stored" or row.copied_from != file.name or row.size != file.size:
            return None
        try:
            if driver.size(row.url) != file.size:
                return None
        except ObjectMissing:
            return None
        copy_written(self.catalog, self.lease, store, file.size, row.proof, utc_now())
        return row

    def _write(
        self, driver: StoreDriver, store: str, file: SealedFile, path: Path, watch: CopyWatch, earlier: EarlierCopy
    ) -> StoredObject:
        driver.check()
        token = self._resumed(driver, store, file, earlier.row)
        if token is None:
            url = self._clear_way(driver, store, watch, earlier.row)
            fresh, now = not earlier.exists, utc_now()
            open_location(self.catalog, self.lease, store, url, now, copied_from=file.name, fresh=fresh)
            driver.discard_temporaries(self.lease.image_id, self.lease.epoch)
        try:
            with self.slots(store, self.stop, watch):
                stored = self._put(driver, store, file, path, watch, token)
        except AlreadyStored:
            if token is None:
                raise
            # The former writer finished after all: its object is ours, and is replaced like an earlier attempt's.
            return self._write(driver, store, file, path, watch, self._earlier(store))
        self._verify(driver, store, stored.url, file, path, watch)
        copy_written(self.catalog, self.lease, store, stored.size, stored.proof, utc_now(), url=stored.url)
        return stored

    def _verify(
        self, driver: StoreDriver, store: str, url: str, file: SealedFile, path: Path, watch: CopyWatch
    ) -> None:
        if not file.url:
            verify_copy(driver, store, url, path, file.size, self.stop, watch)
            return
        with self.using(file.store) as origin:
            verify_stored_copy(driver, store, url, origin, file, self.stop, watch)

    def _resumed(self, driver: StoreDriver, store: str, file: SealedFile, row: LocationRow | None) -> str | None:
        """Take over the unfinished copy that an earlier attempt made of this very file; return its driver's token.

        None if nothing can be resumed. An object of that name is complete, and is not written again.
        """
        if row is None or row.state != "uploading" or row.copied_from != file.name or row.put_token is None:
            return None
        try:
            driver.size(row.url)
        except ObjectMissing:
            resume_location(self.catalog, self.lease, store, utc_now())
            return row.put_token
        return None

    def _clear_way(self, driver: StoreDriver, store: str, watch: CopyWatch, row: LocationRow | None) -> str:
        """Remove what an earlier attempt left in the store; return the URL to write.

        Raises:
            AlreadyStored: the store holds an object of that name that no journal row names.
        """
        if row is not None:
            self._take_back_in_turn(driver, store, watch)
        url = driver.url_of(self.lease.image_id)
        try:
            driver.size(url)
        except ObjectMissing:
            return url
        raise AlreadyStored(store, self.lease.image_id)

    def _take_back_in_turn(self, driver: StoreDriver, store: str, watch: CopyWatch) -> None:
        """Remove an earlier copy after any removal by housekeeping, whose claim lasts no longer than a lease.

        Raises:
            CopyBeingRemoved: housekeeping took longer than that.
        """

        def removed() -> bool:
            try:
                row = self._give_up(store)
                if row is not None:
                    self._remove(driver, row)
            except CopyBeingRemoved:
                return False
            return True

        in_time = wait_until(
            removed,
            "the removal of an earlier copy, which housekeeping has begun,",
            "it ends within a minute",
            timeout_s=self.settings.lease.ttl_s,
            pauses_s=repeat(TURN_S),
            stop=self.stop,
            watch=watch,
        )
        if not in_time:
            raise CopyBeingRemoved(store)

    def _put(
        self, driver: StoreDriver, store: str, file: SealedFile, path: Path, watch: CopyWatch, token: str | None
    ) -> StoredObject:
        """Pass a file or object to the driver with everything that a put or a copy needs."""

        def keep(token: str) -> None:
            keep_put_token(self.catalog, self.lease, store, token, utc_now())

        pace, unfinished = store_pace(self.settings, store, self.stop), Unfinished(token, keep)
        if file.url:
            source = StoredSource(file.store, file.url, file.size, file.proof, self.lease.epoch, pace)
            return driver.copy(self.lease.image_id, source, watch.advance, self.stop, unfinished)
        staged = StagedFile(path, file.size, self.lease.epoch, stored=bool(file.path), pace=pace)
        return driver.put(self.lease.image_id, staged, watch.advance, self.stop, unfinished)
