"""Put uploaded data into one store: inspected first, then written as the journal says, then active."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from config.settings import Settings
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.engine import Catalog
from transship.catalog.journal import (
    drop_location,
    find_location,
    forget_location,
    mark_deleting,
    open_location,
)
from transship.catalog.uploads import Upload, finish_upload, prepare_upload, refuse_upload
from transship.domain.clock import utc_now
from transship.domain.errors import AlreadyStored, LockLost, ObjectMissing, StoredDiffers, TransferFailed
from transship.domain.fence import Fence
from transship.domain.notification import upload_failure
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.plugins.format_gate import Inspected, inspect_file
from transship.plugins.size_cap import refuse_beyond_cap
from transship.staging.area import StagingArea
from transship.staging.receiving import Received
from transship.stores.base import StoreDriver

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """What is to be stored.

    Attributes:
        received: the sealed file of the upload, with its digests.
        store: id of the store.
        fence: asked before what cannot be taken back.
        stop: says that the image was deleted or taken over.
    """

    settings: Settings
    catalog: Catalog
    area: StagingArea
    upload: Upload
    received: Received
    store: str
    fence: Fence
    stop: StopToken


def store_upload(work: StoredUpload, driver: StoreDriver) -> None:
    """Make the image active with the uploaded data in one store.

    Raises:
        FormatMismatch, FormatUnsafe, ImageTooLarge: the data must not be used; no store saw them.
        TransferFailed: the store did not take them; nothing is left in it, or a row tells housekeeping what is.
        LockLost: the image was deleted or taken over; what is in the store is the journal's to remove.
    """
    inspected = _inspect(work)
    for warning in inspected.warnings:
        log.warning("data accepted with a warning", image_id=work.upload.image.id, reason=warning)
    prepare_upload(work.catalog, work.upload.lease, work.store)
    try:
        url = _clear_way(work, driver)
        open_location(work.catalog, work.upload.lease, work.store, url, utc_now())
        _put(work, driver, url)
        work.stop.check()
        finish_upload(work.catalog, work.upload.lease, work.store, _facts(work, inspected), utc_now())
    except AlreadyStored as foreign:
        # Somebody else's object is in its place: the row must never lead a sweep to it.
        forget_location(work.catalog, work.upload.lease, work.store)
        _tell_refusal(work, foreign)
        raise
    except TransferFailed as failed:
        _take_back(work, driver)
        _tell_refusal(work, failed)
        raise


def _tell_refusal(work: StoredUpload, fault: TransferFailed) -> None:
    lease = work.upload.lease
    refuse_upload(work.catalog, lease, work.store, upload_failure(lease.image_id, fault))


def _inspect(work: StoredUpload) -> Inspected:
    image = work.upload.image
    found = inspect_file(
        work.area.sealed(work.upload.name),
        image.disk_format or "",
        image.container_format or "",
        work.settings.formats,
        size_cap_bytes=work.settings.imports.image_size_cap_bytes,
        stop=work.stop,
        progress=lambda _done_bytes, _total_bytes: None,
    )
    refuse_beyond_cap(found, image.owner, work.settings.imports)
    return found


def _clear_way(work: StoredUpload, driver: StoreDriver) -> str:
    """Remove what an earlier attempt left in the store; return the URL to write.

    Raises:
        AlreadyStored: the store holds an object of that name that no journal row names.
    """
    driver.check()
    image_id = work.upload.image.id
    with work.catalog.read() as connection:
        earlier = find_location(connection, image_id, work.store)
    if earlier is not None:
        _remove(work, driver, earlier.url)
    url = driver.url_of(image_id)
    try:
        driver.size(url)
    except ObjectMissing:
        return url
    raise AlreadyStored(work.store, image_id)


def _put(work: StoredUpload, driver: StoreDriver, url: str) -> None:
    lease, size = work.upload.lease, work.received.size
    driver.discard_temporaries(lease.image_id, lease.epoch)
    staged = StagedFile(work.area.sealed(work.upload.name), size, lease.epoch)
    stored = driver.put(lease.image_id, staged, lambda _done_bytes: None, work.stop)
    if work.settings.imports.verify_stores:
        found = driver.size(url)
        if found != size:
            raise StoredDiffers(work.store, f"{size} bytes", f"{found} bytes")
    copy_written(work.catalog, lease, work.store, stored.size, stored.proof, utc_now())


def _facts(work: StoredUpload, inspected: Inspected) -> DataFacts:
    image, algorithm = work.upload.image, work.settings.imports.hashing_algorithm
    digests = work.received.digests or {}
    return DataFacts(
        size=work.received.size,
        virtual_size=inspected.virtual_size,
        checksum=digests.get("md5"),
        os_hash_algo=algorithm,
        os_hash_value=digests[algorithm],
        disk_format=image.disk_format or "",
        container_format=image.container_format or "",
    )


def _take_back(work: StoredUpload, driver: StoreDriver) -> None:
    image_id = work.upload.image.id
    try:
        with work.catalog.read() as connection:
            row = find_location(connection, image_id, work.store)
        if row is not None:
            _remove(work, driver, row.url)
    except (TransferFailed, LockLost) as left:
        # Its journal row stays, and housekeeping removes what it names.
        log.warning("copy not removed yet", image_id=image_id, store=work.store, reason=str(left))


def _remove(work: StoredUpload, driver: StoreDriver, url: str) -> None:
    lease = work.upload.lease
    mark_deleting(work.catalog, lease, work.store, utc_now())
    driver.discard_temporaries(lease.image_id, lease.epoch + 1)
    # Another process may have written its own copy there while this one slept.
    work.fence.check()
    driver.delete(url)
    with work.catalog.write() as connection:
        drop_location(connection, lease.image_id, work.store)
