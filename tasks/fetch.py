"""Get the data of an image that has them from a kept staged file, or from the best store to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import structlog

from config.settings.stores import store_facts
from tasks.digest import algorithms_of
from tasks.session import ImportSession, current
from tasks.staged_files import keep_one, new_name, open_file, path_of, reserve, seal, unstage
from tasks.steps import step
from tasks.stores import using_store
from transship.catalog.imports import Begun
from transship.catalog.journal import StagedRow, adopt_staged, find_location
from transship.domain.errors import (
    NoReadableCopy,
    ObjectMissing,
    StoredDiffers,
    StoreDenied,
    StoreMisconfigured,
    StoreUnavailable,
)
from transship.domain.image import Image, Location
from transship.domain.import_data import Done, FinalData, Outcome, SealedFile, Skipped
from transship.domain.placement import StoreFacts, best_first
from transship.domain.staged import SOURCE_ROLE, StoredSource
from transship.host.sparse_writing import write_sparsely
from transship.host.staging_faults import staging_error
from transship.stores.base import StoreDriver
from transship.stores_in_force import stores_in_force

log = structlog.get_logger("transship.fetch")


@step("fetch", "fetch the image's data")
def fetch(begun: Begun, refused: Mapping[str, str]) -> Outcome[FinalData]:
    """Return the data of an image that has them.

    A file kept by an earlier attempt is tried first; then an object that all targets can copy themselves; then the
    stores that hold the image, best first, until one can be read. Data in a local file are used in place; others are
    read into staging, where zeros become holes.

    Args:
        refused: reasons by store whose data were found to differ; a kept file counts by its name, an object that was
            not read by its URL.

    Raises:
        NoReadableCopy: no store can be read.
        StagingFull, StagingBroken: the data cannot be staged.
        LockLost, ImportStopped: the import must end.
    """
    session, image = current(), begun.image
    session.board.enter("stage", image.size or 0)
    kept = _kept(session, image, refused)
    if kept is not None:
        return Done(FinalData(kept, image))
    locations = best_first(image.locations, _store_facts(session))
    for location in locations:
        stored = None if location.url in refused else _copied_by_targets(session, begun, location)
        if stored is not None:
            return Skipped(FinalData(stored, image), f"the stores copy it from {location.store} themselves")
    reasons = dict(refused)
    for location in locations:
        if location.store in refused:
            continue
        try:
            return Done(FinalData(_from_store(session, image, location), image))
        except (ObjectMissing, StoredDiffers, StoreDenied, StoreMisconfigured, StoreUnavailable) as error:
            log.warning("store cannot be read", store=location.store, reason=str(error))
            reasons[location.store] = str(error)
    raise NoReadableCopy(image.id, list(reasons.values()))


def _kept(session: ImportSession, image: Image, refused: Mapping[str, str]) -> SealedFile | None:
    """Return a sealed file of an earlier attempt that may hold the data; other files are removed."""
    found = keep_one(session, lambda row: row.name not in refused and _has_the_size(session, image, row))
    if found is None:
        return None
    adopt_staged(session.catalog, session.lease, found.name, session.staging.host)
    return SealedFile(found.name, image.size or 0, digests=found.digests or {})


def _has_the_size(session: ImportSession, image: Image, row: StagedRow) -> bool:
    path = session.staging.sealed(row.name)
    return row.state == "sealed" and row.size == image.size and path.exists() and path.stat().st_size == row.size


def _store_facts(session: ImportSession) -> list[StoreFacts]:
    """Return the stores with the weights in force: those edited in the Prefect UI take precedence."""
    return [
        store_facts(store_id, store, default=store_id == session.settings.default_store)
        for store_id, store in stores_in_force(session.settings, session.catalog).items()
    ]


def _copied_by_targets(session: ImportSession, begun: Begun, location: Location) -> SealedFile | None:
    """Return a store's object that all targets can copy themselves; None if it has to be read.

    Only its proof then tells that the copies have the bytes whose digests the image has.
    """
    image, epoch = begun.image, session.lease.epoch
    digests = {"md5": image.checksum, image.os_hash_algo or "": image.os_hash_value}
    known = {algorithm: value for algorithm, value in digests.items() if value}
    complete = known.keys() >= set(algorithms_of(session.settings, image))
    if location.damage is not None or not complete or not begun.to_write:
        return None
    with session.catalog.statement() as connection:
        row = find_location(connection, image.id, location.store)
    if row is None or row.size is None or (row.url, row.size) != (location.url, image.size):
        return None
    source = StoredSource(location.store, row.url, row.size, row.proof, epoch)
    using = partial(using_store, settings=session.settings, catalog=session.catalog)
    try:
        with using(location.store):  # the copies are verified against it
            for target in begun.to_write:
                with using(target) as driver:
                    if not driver.can_copy(source):
                        return None
    except (StoreDenied, StoreMisconfigured, StoreUnavailable):
        return None
    name = f"{location.store}/{image.id}"
    return SealedFile(name, row.size, location.store, url=row.url, proof=row.proof, digests=known)


def _from_store(session: ImportSession, image: Image, location: Location) -> SealedFile:
    with using_store(location.store, session.settings, session.catalog) as driver:
        size = driver.size(location.url)
        if image.size not in (None, size):
            raise StoredDiffers(location.store, f"{image.size} bytes", f"{size} bytes")
        local = driver.local_file(location.url)
        if local is not None:
            return SealedFile(f"{location.store}/{image.id}", size, location.store, str(local))
        return _read_into_staging(session, driver, location, size)


def _read_into_staging(session: ImportSession, driver: StoreDriver, location: Location, size: int) -> SealedFile:
    name = new_name(session, SOURCE_ROLE)
    open_file(session, name, SOURCE_ROLE)
    reserve(session, name, size)
    with session.staging.writing(name) as path:
        try:
            with path.open("wb", buffering=0) as part:
                done = 0
                for piece in driver.read(location.url):
                    session.stop.check()
                    write_sparsely(part.fileno(), piece, done)
                    done += len(piece)
                    session.board.advance(done)
                part.truncate(done)
        except OSError as error:
            raise staging_error(error, size) from error
    if path.stat().st_size != size:
        raise StoredDiffers(location.store, f"{size} bytes", f"{path.stat().st_size} bytes")
    return replace(seal(session, name), store=location.store)


def drop(session: ImportSession, file: SealedFile) -> None:
    """Remove a staged file whose bytes were found to differ; a store's own file is kept."""
    if not (file.path or file.url) and path_of(session, file).exists():
        unstage(session, file.name)
