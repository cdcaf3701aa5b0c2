"""Store uploaded data in one store: inspect the data, write the copy, activate the image."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from transship.catalog.copies import DataFacts
from transship.catalog.engine import Catalog
from transship.catalog.uploads import Upload, finish_upload, note_wait, prepare_upload, refuse_upload
from transship.domain.clock import utc_now
from transship.domain.errors import CatalogUnavailable, LockLost, StoreUnknown, TransferFailed, UploadEmpty
from transship.domain.import_data import SealedFile
from transship.domain.notification import upload_failure
from transship.domain.stop import StopToken
from transship.placing.placer import Placer
from transship.plugins.format_gate import Inspected, inspect_file
from transship.plugins.size_cap import refuse_beyond_cap
from transship.staging.area import StagingArea
from transship.staging.receiving import Received

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An upload to be stored.

    Attributes:
        received: the sealed file of the upload, with its digests.
        store: id of the store.
        placer: writes it there.
        stop: set when the image was deleted or taken over.
    """

    settings: Settings
    catalog: Catalog
    area: StagingArea
    upload: Upload
    received: Received
    store: str
    placer: Placer
    stop: StopToken


def store_upload(work: StoredUpload) -> None:
    """Make the image active with the uploaded data in one store, within the store's rate and slots.

    Raises:
        FormatMismatch, FormatUnsafe, ImageTooLarge, UploadEmpty: the data must not be used; no store has seen them.
        TransferFailed: the copy failed; nothing is left in the store, or a journal row names it for housekeeping.
        LockLost: the image was deleted or taken over; housekeeping removes what is in the store.
    """
    inspected = _inspect(work)
    for warning in inspected.warnings:
        log.warning("data accepted with a warning", image_id=work.upload.image.id, reason=warning)
    prepare_upload(work.catalog, work.upload.lease, work.store)
    file, path = SealedFile(work.upload.name, work.received.size), work.area.sealed(work.upload.name)
    try:
        work.placer.place(work.store, file, path, _OnImage(work.catalog, work.upload))
        work.stop.check()
        finish_upload(work.catalog, work.upload.lease, work.store, _facts(work, inspected), utc_now())
    except TransferFailed as failed:
        _take_back(work)
        lease = work.upload.lease
        refuse_upload(work.catalog, lease, work.store, upload_failure(lease.image_id, failed))
        raise


@dataclass(slots=True)
class _OnImage:
    """Shows on the image why its upload waits, because an upload has no task."""

    catalog: Catalog
    upload: Upload
    shown: str | None = field(default=None, init=False)

    def advance(self, done_bytes: int) -> None:
        self._show(None)

    def wait(self, text: str) -> None:
        self._show(text)

    def verify(self) -> None:
        self._show(None)

    def _show(self, text: str | None) -> None:
        if text == self.shown:
            return
        self.shown = text
        log.info("upload waits" if text else "upload continues", image_id=self.upload.image.id, reason=text)
        try:
            note_wait(self.catalog, self.upload.lease, text)
        except (SQLAlchemyError, CatalogUnavailable, LockLost) as error:
            log.warning("wait of an upload not recorded", image_id=self.upload.image.id, error=str(error))


def _inspect(work: StoredUpload) -> Inspected:
    image = work.upload.image
    formats = image.disk_format or "", image.container_format or ""
    # Nova creates such an image, without data, for the snapshot of an instance that boots from a volume.
    if not work.received.size and formats != ("raw", "bare"):
        raise UploadEmpty(*formats)
    found = inspect_file(
        work.area.sealed(work.upload.name),
        *formats,
        work.settings.formats,
        size_cap_bytes=work.settings.imports.image_size_cap_bytes,
        stop=work.stop,
        progress=lambda _done_bytes, _total_bytes: None,
    )
    refuse_beyond_cap(found, image.owner, work.settings.imports)
    return found


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


def _take_back(work: StoredUpload) -> None:
    try:
        work.placer.take_back(work.store)
    except (TransferFailed, LockLost, StoreUnknown) as left:
        # The journal row stays, and housekeeping removes the copy.
        image_id = work.upload.image.id
        log.warning("copy not removed yet", image_id=image_id, store=work.store, reason=str(left))
