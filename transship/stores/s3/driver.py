"""The S3 store: one object per image in a bucket, named by the image id.

Images of any size are uploaded in parts to their final key, where nothing is visible before the upload is completed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from config.settings.stores.s3 import S3StoreSettings
from transship.domain.errors import AlreadyStored, ObjectMissing, StoreDenied, StoreUnavailable, TransferFailed
from transship.domain.staged import Progress, StagedFile, StoredSource
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.directories import MARK
from transship.stores.base import (
    CHECK_TIMEOUT_S,
    NOTHING_KEPT,
    PROGRESS_EVERY_S,
    Content,
    StoredObject,
    StoreDriver,
    Unfinished,
)
from transship.stores.mark import Mark
from transship.stores.s3.bucket import PAUSES_S, Bucket, StreamCut
from transship.stores.s3.faults import store_error
from transship.stores.s3.names import CHECK, OWN_NAMES, Locations, marker_in
from transship.stores.s3.part_copies import PROOF, PartCopier, is_proven_by_parts
from transship.stores.s3.upload import MIB, MakesParts, PartSender, plan
from transship.stores.s3.writer import Writer, discard
from transship.stores.staged_source import opened_staged, rejoined, require_canonical

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = structlog.get_logger("transship.stores")

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 60
"""Seconds without a byte after which a request counts as unanswered. Completing a large upload takes long."""

MOST_CUTS: Final = 8
"""How often one read continues after its connection broke."""

NOT_PREPARED: Final = "its bucket has no mark: it was never prepared, or is another one"


class S3Store(StoreDriver):
    """Keep images in a bucket of an S3 service, as Glance's S3 store does.

    Args:
        store_id: id of the store, for messages.
        settings: of the store.
        catalog_id: id of the catalogue that the store belongs to; the bucket is marked with both ids.
    """

    _client: S3Client

    def __init__(self, store_id: str, settings: S3StoreSettings, catalog_id: str) -> None:
        self._store_id = store_id
        self._settings = settings
        self._part_bytes = settings.part_mib * MIB
        self._locations = Locations.of(settings.endpoint, settings.bucket)
        self._mark = Mark(store_id, catalog_id, "bucket", NOT_PREPARED)
        self._publishing = threading.RLock()

    @classmethod
    def of(cls, store_id: str, settings: S3StoreSettings, catalog_id: str) -> Self:
        """Return the driver that the settings describe."""
        return cls(store_id, settings, catalog_id)

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self._store_id, self._client, self._settings.bucket)

    def open(self) -> None:
        """Make the client; it connects with the first request."""
        self._client = self._new_client(READ_TIMEOUT_S)

    def _new_client(self, read_timeout_s: float) -> S3Client:
        settings, keys = self._settings, self._settings.keys
        pair = (keys.access_key.get_secret_value(), keys.secret_key.get_secret_value()) if keys else ()
        session = boto3.session.Session(*pair)
        config = Config(
            connect_timeout=min(CONNECT_TIMEOUT_S, read_timeout_s),
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},  # ours obey the stop token
            max_pool_connections=2 * settings.parts_in_flight + 8,
            proxies={},
            request_checksum_calculation="when_required",  # radosgw 16 knows no others
            response_checksum_validation="when_required",
            s3={
                "addressing_style": settings.addressing_style,
                "payload_signing_enabled": False,  # each part has its MD5 instead
            },
        )
        try:
            return session.client(
                "s3",
                endpoint_url=settings.endpoint or None,
                region_name=settings.region or None,
                verify=str(settings.ca_file) if settings.ca_file else True,
                config=config,
            )
        except (BotoCoreError, ValueError, OSError) as error:
            raise store_error(self._store_id, error, 0) from error

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def public_properties(self) -> Mapping[str, object]:
        """Return what Glance shows of such a store."""
        return {
            "s3_store_large_object_size": 0,
            "s3_store_large_object_chunk_size": self._part_bytes,
            "s3_store_thread_pools": self._settings.parts_in_flight,
        }

    def remedy(self) -> str:
        """Say how to restore the bucket, or to start with an empty one."""
        service = self._settings.endpoint or "AWS"
        return (
            f"Make sure that {service} answers and has the bucket {self._settings.bucket}, and run 'transship deploy';"
            f" to start with an empty bucket, put an empty object {MARK} into it first"
        )

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Create the bucket if the settings say so, and mark it; see `StoreDriver.prepare`.

        An operator confirms that a bucket is the right one by putting an empty mark into it.
        """
        keys = {key for key in map(self._locations.key_in, known) if key is not None}
        if self._settings.create_bucket and not before and not keys:
            self._bucket.create(self._settings.region)
        found = self._bucket.text(MARK)
        if found is None and (before or (keys and keys.isdisjoint(self._bucket.keys()))):
            raise self._mark.missing()
        if not found:
            self._bucket.write(MARK, self._mark.text.encode())
            found = self._bucket.text(MARK)
        self._mark.require(found)

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Upload the staged file in parts; see `StoreDriver.put`.

        Raises:
            ValueError: ``image_id`` is not a canonical UUID.
        """
        require_canonical(image_id)
        stop.check()
        with opened_staged(staged) as source:
            return self._write(image_id, staged, partial(PartSender, source, staged), progress, stop, unfinished)

    def can_copy(self, source: StoredSource) -> bool:
        """Return whether the object is in the same service, readable with these keys, and has parts of that size."""
        place = self._locations.beside(source.url)
        if place is None:
            return False
        bucket, key = place
        try:
            found = Bucket(self._store_id, self._client, bucket).impatient().head(key)
        except TransferFailed:
            return False
        return is_proven_by_parts(found, source, plan(source.size, self._part_bytes))

    def copy(
        self,
        image_id: str,
        source: StoredSource,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Have the service copy the object's parts; see `StoreDriver.copy`.

        Raises:
            ValueError: ``image_id`` is not a canonical UUID, or `can_copy` is False for the URL.
        """
        require_canonical(image_id)
        stop.check()
        place = self._locations.beside(source.url)
        if place is None:
            raise ValueError(f"{source.url} is in another service")
        return self._write(image_id, source, partial(PartCopier, source, place), progress, stop, unfinished)

    def _write(
        self,
        image_id: str,
        source: StagedFile | StoredSource,
        maker: MakesParts,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished,
    ) -> StoredObject:
        self._require_prepared()
        if self._bucket.head(image_id) is not None:
            raise AlreadyStored(self._store_id, image_id)
        writer = Writer(
            self._bucket.filled_by(source.size),
            image_id,
            source.epoch,
            source.size,
            maker,
            unfinished,
            self._part_bytes,
            self._settings.parts_in_flight,
            self._publishing,
        )
        paced = ThrottledProgress(lambda done, _size: progress(done), PROGRESS_EVERY_S)
        found = writer.write(paced, stop)
        paced.end(source.size)
        return StoredObject(self.url_of(image_id), found.size, f"{PROOF}{found.etag}")

    def size(self, url: str) -> int:
        """Return the size of an object; see `StoreDriver.size`."""
        found = self._bucket.head(self._key_of(url))
        if found is None:
            raise self._missing(url)
        return found.size

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes in pieces of at most 1 MiB; see `StoreDriver.read`."""
        if length == 0:
            self.size(url)
            return iter(())
        pieces = self._pieces(url, offset, None if length is None else offset + length)
        return rejoined(next(pieces, b""), pieces)

    def delete(self, url: str) -> None:
        """Remove an object; see `StoreDriver.delete`.

        Raises:
            StoreDenied: also for a URL that does not belong to this store; nothing was changed.
        """
        key = self._locations.key_in(url)
        if key is None:
            log.warning("not an object of the store", store=self._store_id, bucket=self._settings.bucket)
            raise StoreDenied(self._store_id, "the location does not name an object of the store")
        self._require_prepared()
        self._bucket.delete(key)

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Abort the uploads of older epochs; see `StoreDriver.discard_temporaries`."""
        require_canonical(image_id)
        self._require_prepared()
        return discard(self._bucket, image_id, before_epoch, token)

    def url_of(self, image_id: str) -> str:
        """Return ``s3://host/bucket/<image_id>``, or ``s3+https://…``, as Glance writes it."""
        return self._locations.prefix + image_id

    def own_url(self, url: str) -> str | None:
        """Return the URL of the same object, without credentials; see `StoreDriver.own_url`."""
        key = self._locations.key_in(url)
        return None if key is None else self.url_of(key)

    def contents(self) -> Iterator[Content]:
        """Yield every object and every unfinished upload; see `StoreDriver.contents`."""
        self._require_prepared()
        named: set[str] = set()
        for key in self._bucket.keys():  # noqa: SIM118 - no mapping
            marker = marker_in(key)
            if marker is not None:
                named.add(marker.upload)
                yield Content(key, self.url_of(marker.image_id))
            elif key not in OWN_NAMES:
                yield Content(key, self.url_of(key))
        for key, upload in self._bucket.uploads():
            if upload not in named:
                yield Content(f"{key}?uploadId={upload}", self.url_of(key))

    def check(self) -> None:
        """Write and remove an empty object; see `StoreDriver.check`."""
        with closing(self._new_client(CHECK_TIMEOUT_S)) as client:
            bucket = replace(self._bucket, client=client).impatient()
            self._mark.require(bucket.text(MARK))
            bucket.write(CHECK, b"")  # the name is fixed, so the next check removes what a killed one left
            bucket.delete(CHECK)

    def _pieces(self, url: str, offset: int, end: int | None) -> Iterator[bytes]:
        """Yield an object's bytes; continue where the connection broke, if it is still the same object."""
        key, etag, cuts = self._key_of(url), "", 0
        while end is None or offset < end:
            stream = self._bucket.read(key, offset, end, etag)
            if stream is None:
                raise self._missing(url)
            etag = stream.etag
            try:
                with closing(stream):
                    for piece in stream:
                        offset += len(piece)
                        yield piece
                return
            except StreamCut as cut:
                cuts += 1
                if cuts > MOST_CUTS:
                    raise StoreUnavailable(self._store_id, "the connection broke too often") from cut
                time.sleep(PAUSES_S[0])

    def _key_of(self, url: str) -> str:
        key = self._locations.key_in(url)
        if key is None:
            raise ObjectMissing(self._store_id, url)
        return key

    def _missing(self, url: str) -> TransferFailed:
        """Return the error for an object that is not in the bucket.

        Raises:
            StoreUnavailable: the bucket is not the one that was prepared, so this proves nothing.
        """
        self._require_prepared()
        return ObjectMissing(self._store_id, url)

    def _require_prepared(self) -> None:
        """Refuse a bucket other than the prepared one.

        Raises:
            StoreUnavailable: it is missing, not marked, or another's.
        """
        self._mark.require(self._bucket.text(MARK))
