"""``PUT …/stage`` and ``PUT …/file``: receive image data from a client, with memory for two pieces.

Pieces are collected in the event loop and written by threads, so the next one arrives while
one is written and hashed. The image's lease is renewed meanwhile; if it is taken over, the upload ends.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from config.settings import Settings, UploadSettings
from transship.api.site import Call
from transship.api.upload_store import StoredUpload, store_upload
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image
from transship.catalog.leases import renew_lease
from transship.catalog.uploads import Upload, abandon_upload, begin_upload, finish_stage
from transship.domain.clock import utc_now
from transship.domain.errors import (
    BadRequest,
    CatalogUnavailable,
    ConfigurationRefused,
    DataTypeRefused,
    ImageGone,
    ImageNotFound,
    ImportCancelled,
    LockLost,
    MethodNotOffered,
    StagingBroken,
    TransferFailed,
    TransshipError,
    UploadTakenOver,
    UploadTooSlow,
)
from transship.domain.fence import Fence
from transship.domain.image import Image, ImageStatus
from transship.domain.methods import UPLOAD_METHOD
from transship.domain.placement import choose_upload_target
from transship.domain.policies import Action
from transship.domain.quota import Claim
from transship.domain.stop import StopToken
from transship.placing.placer import Placer
from transship.plugins.foresight import may_change_data
from transship.prefect_rest.client import PrefectRest
from transship.prefect_rest.slots import StoreSlots
from transship.staging.area import StagingArea
from transship.staging.opening import open_staging
from transship.staging.receiving import PIECE_BYTES, Bounds, Received, Reception

DATA_TYPE: Final = "application/octet-stream"
SIZE_HEADER: Final = "x-openstack-image-size"
STORE_HEADER: Final = "x-image-meta-store"

log = structlog.get_logger(__name__)


async def stage_image(call: Call) -> Response:
    """``PUT /v2/images/{image_id}/stage``: stage data for a glance-direct import."""
    settings = call.site.settings
    if UPLOAD_METHOD not in settings.imports.enabled_methods:
        raise MethodNotOffered(UPLOAD_METHOD)
    bounds = _bounds(call)

    def digests(head: bytes, image: Image) -> tuple[str, ...]:
        return () if may_change_data(settings, image, head) else _algorithms(settings)

    def end(carried: Carried, received: Received) -> None:
        finish_stage(call.site.catalog, carried.upload, received.size, received.digests, utc_now())
        log.info("data staged", image_id=call.image_id, size=received.size, host=settings.host_name)

    def judge(image: Image) -> None:
        call.require(Action.MODIFY_IMAGE, image)

    await _take(call, ImageStatus.UPLOADING, bounds, judge, digests, end)
    return Response(status_code=204)


async def upload_image(call: Call) -> Response:
    """``PUT /v2/images/{image_id}/file``: write data to one store, without running plugins."""
    settings = call.site.settings
    bounds = _bounds(call)
    facts = await run_in_threadpool(call.site.stores.facts)
    store = choose_upload_target(call.request.headers.get(STORE_HEADER) or None, facts)

    def judge(image: Image) -> None:
        call.require(Action.UPLOAD_IMAGE, image)
        for name in ("container_format", "disk_format"):
            if not getattr(image, name):
                raise BadRequest(f"'{name}' needs to be set before data are uploaded")

    def end(carried: Carried, received: Received) -> None:
        lease, site = carried.upload.lease, call.site
        slots = StoreSlots(settings.imports, lambda: PrefectRest.of(settings, tries_when_busy=4)).hold
        placer = Placer(settings, site.catalog, lease, carried.fence, carried.stop, site.stores.using, slots)
        store_upload(
            StoredUpload(settings, site.catalog, carried.area, carried.upload, received, store, placer, carried.stop)
        )
        _tidy(carried)
        log.info("data stored", image_id=call.image_id, size=received.size, store=store)

    await _take(call, ImageStatus.SAVING, bounds, judge, lambda _head, _image: _algorithms(settings), end)
    return Response(status_code=204)


def _tidy(carried: Carried) -> None:
    try:
        carried.reception.discard()
    except TransferFailed as left:
        log.warning("staged file not removed yet", image_id=carried.upload.image.id, reason=str(left))


def _algorithms(settings: Settings) -> tuple[str, ...]:
    imports = settings.imports
    return (*(("md5",) if imports.md5_checksum else ()), imports.hashing_algorithm)


def _bounds(call: Call) -> Bounds:
    """Return the bounds of the data from the request's headers.

    Raises:
        DataTypeRefused: the content type is not that of image data.
        BadRequest: the size is not a number.
        ImageTooLarge: the size exceeds the cap.
    """
    headers, settings = call.request.headers, call.site.settings
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != DATA_TYPE:
        raise DataTypeRefused(content_type, DATA_TYPE)
    declared = headers.get(SIZE_HEADER, headers.get("content-length"))
    if declared is not None and not (declared.isascii() and declared.isdigit() and len(declared) < 19):
        raise BadRequest(f"{SIZE_HEADER} must be a number of bytes, not '{declared[:40]}'")
    size = None if declared is None else int(declared)
    bounds = Bounds(size, settings.imports.image_size_cap_bytes, settings.staging.unknown_size_reserve_bytes)
    bounds.check(size or 0)
    return bounds


@dataclass(slots=True)
class Carried:
    """An upload in this process.

    Attributes:
        fence: checked before each irreversible step, and with each check of `stop`.
        stop: set when the image was deleted or taken over.
        complete: all data have arrived; later steps check the lease themselves, and the last one frees it.
    """

    upload: Upload
    area: StagingArea
    reception: Reception
    fence: Fence
    stop: StopToken
    complete: bool = False


async def _take(
    call: Call,
    status: ImageStatus,
    bounds: Bounds,
    judge: Callable[[Image], None],
    digests: Callable[[bytes, Image], tuple[str, ...]],
    end: Callable[[Carried, Received], None],
) -> None:
    """Take the lease, receive the data, then call ``end`` to process them; clean up after any failure.

    ``end`` may wait for its store for a long time, so it runs in a separate thread, not in one for requests.

    Raises:
        TransshipError: why the data were not accepted; the image is queued again unless it was deleted.
        ClientDisconnect: the client disconnected; the image is queued again unless it was deleted.
    """
    carried = await run_in_threadpool(_begin, call, status, bounds, judge, digests)
    try:
        await _unless_lost(carried, call, _carry(call.request, call.site.settings.upload, carried, end))
    except BaseException as failed:
        carried.stop.stop(ImportCancelled("the upload ended"))
        giving_up = asyncio.ensure_future(run_in_threadpool(_give_up, call, carried, failed))
        # When the process stops, this task is cancelled, but the clean-up is not.
        gone = await asyncio.shield(giving_up)
        if gone is not None:
            raise gone from failed
        raise


def _begin(
    call: Call,
    status: ImageStatus,
    bounds: Bounds,
    judge: Callable[[Image], None],
    digests: Callable[[bytes, Image], tuple[str, ...]],
) -> Carried:
    settings, catalog, image_id = call.site.settings, call.site.catalog, call.image_id

    area = StagingArea.of(settings)
    _open(catalog, area)
    owner = f"{settings.host_name} pid {os.getpid()} upload {uuid4().hex[:8]}"
    claim = _claim(call, status, judge)
    upload = begin_upload(
        catalog,
        image_id,
        status,
        judge,
        owner=owner,
        host=settings.host_name,
        ttl_s=settings.lease.ttl_s,
        now=utc_now(),
        claim=claim(bounds.declared_bytes or 0) if claim else None,
    )
    reception = Reception(catalog, area, upload, bounds, lambda head: digests(head, upload.image), claim)
    fence = Fence(lambda: renew_lease(catalog, upload.lease, settings.lease.ttl_s), settings.lease.ttl_s)
    return Carried(upload, area, reception, fence, StopToken(fence.check))


def _claim(call: Call, status: ImageStatus, judge: Callable[[Image], None]) -> Callable[[int], Claim] | None:
    """Return what an upload of a size in bytes uses of the quota of the image's project; None: it has none."""
    if not call.site.settings.quota.of_projects:
        return None
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    judge(image)
    quota = call.site.quotas.of(image.owner)
    kind = "stage" if status is ImageStatus.UPLOADING else "size"
    return None if quota is None else lambda size: quota.claim(image.id, **{kind: size, "uploading": 1})


def _open(catalog: Catalog, area: StagingArea) -> None:
    try:
        open_staging(catalog, area)
    except ConfigurationRefused as refused:
        log.error("staging cannot be used", reason=str(refused))  # noqa: TRY400 - the trace says no more
        raise StagingBroken(refused.for_users) from refused


async def _unless_lost(carried: Carried, call: Call, work: Awaitable[None]) -> None:
    """Do the work while the lease is renewed; a lost lease ends it.

    Raises:
        LockLost: the image was deleted or taken over.
        CatalogUnavailable: the lease could not be renewed before it expired.
    """
    working = asyncio.ensure_future(work)
    renewing = asyncio.ensure_future(_renew(carried, call))
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            carried.stop.stop(_reason(renewing))
            if not carried.complete:
                renewing.result()
        await working
    finally:
        renewing.cancel()
        if not working.done():
            # Its thread may be waiting for a slot of its store, and only notices the stop token.
            carried.stop.stop(ImportCancelled("the upload ended"))
            working.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)


def _reason(renewing: asyncio.Future[None]) -> TransshipError:
    failed = renewing.exception()
    return failed if isinstance(failed, TransshipError) else ImportCancelled("the upload ended")


async def _renew(carried: Carried, call: Call) -> None:
    settings, failing_since = call.site.settings.lease, 0.0
    while True:
        await asyncio.sleep(settings.renew_s)
        try:
            await run_in_threadpool(carried.fence.renew)
            failing_since = 0.0
        except (SQLAlchemyError, CatalogUnavailable) as error:
            failing_since = failing_since or time.monotonic()
            log.warning("lease of an upload not renewed", image_id=carried.upload.image.id, error=str(error))
            if time.monotonic() - failing_since > settings.ttl_s:
                raise CatalogUnavailable("the lease of the upload could not be renewed") from error


async def _carry(
    request: Request, limits: UploadSettings, carried: Carried, end: Callable[[Carried, Received], None]
) -> None:
    await run_in_threadpool(carried.reception.open)
    await _pump(request, limits, carried.reception)
    carried.complete = True
    received = await run_in_threadpool(carried.reception.finish)
    await to_thread.run_sync(end, carried, received, limiter=CapacityLimiter(1))


async def _pump(request: Request, limits: UploadSettings, reception: Reception) -> None:
    """Write the request's body to staging; one piece is written while the next one is collected."""
    gathered = bytearray()
    writing: asyncio.Future[None] | None = None
    pace = Pace(limits)
    stream = request.stream()
    try:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(limits.idle_timeout_s):
                    chunk = await anext(stream, None)
            except TimeoutError as error:
                raise UploadTooSlow(0, limits.min_speed_bytes_per_s, limits.idle_timeout_s) from error
            if chunk is None:
                break
            pace.heard(len(chunk), time.monotonic() - began)
            gathered += chunk
            if len(gathered) >= PIECE_BYTES:
                if writing is not None:
                    await writing
                piece = bytes(memoryview(gathered)[:PIECE_BYTES])
                del gathered[:PIECE_BYTES]
                writing = asyncio.ensure_future(run_in_threadpool(reception.write, piece))
        if writing is not None:
            await writing
        if gathered:
            await run_in_threadpool(reception.write, bytes(gathered))
    finally:
        if writing is not None and not writing.done():
            await asyncio.gather(writing, return_exceptions=True)


class Pace:
    """Refuses a client that sends too slowly; only the time spent waiting for the client counts."""

    def __init__(self, limits: UploadSettings) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._bytes = 0

    def heard(self, size_bytes: int, waited_s: float) -> None:
        """Note how much the client sent, and how long we waited for it.

        Raises:
            UploadTooSlow: it stayed below the minimum rate for a whole window.
        """
        self._waited_s += waited_s
        self._bytes += size_bytes
        window_s, minimum = self._limits.min_speed_window_s, self._limits.min_speed_bytes_per_s
        if self._waited_s < window_s:
            return
        rate = int(self._bytes / self._waited_s)
        if rate < minimum:
            raise UploadTooSlow(rate, minimum, window_s)
        self._waited_s, self._bytes = 0.0, 0


def _give_up(call: Call, carried: Carried, failed: BaseException) -> TransshipError | None:
    """Free the image and remove the received data; return an error to report instead of ``failed``, or None."""
    catalog, upload = call.site.catalog, carried.upload
    instead: TransshipError | None = None
    try:
        abandon_upload(catalog, upload.lease, utc_now())
    except LockLost as lost:
        instead = _why_lost(call, upload, lost)
    except CatalogUnavailable as away:
        # The keeper frees the image when the lease expires.
        log.warning("upload not cleaned up yet", image_id=upload.image.id, reason=str(away))
    _tidy(carried)
    reason = "the client went away" if isinstance(failed, ClientDisconnect) else str(instead or failed)
    log.info("upload aborted", image_id=upload.image.id, reason=reason, kind=type(failed).__name__)
    return instead


def _why_lost(call: Call, upload: Upload, lost: LockLost) -> TransshipError:
    try:
        with call.site.catalog.statement() as connection:
            get_image(connection, upload.image.id)
    except ImageNotFound:
        return ImageGone(upload.image.id)
    except CatalogUnavailable:
        return lost
    return UploadTakenOver(upload.image.id)
