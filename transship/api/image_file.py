"""Download of image data, whole or a range, from the best store that can serve them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.responses import Response, StreamingResponse

from transship.api.site import Call
from transship.catalog.images import get_image
from transship.domain.errors import (
    BadRequest,
    ImageDataUnavailable,
    ObjectMissing,
    RangeUnsatisfiable,
    StoredDiffers,
    StoreDenied,
    StoreUnavailable,
    StoreUnknown,
)
from transship.domain.image import Image, Location
from transship.domain.placement import best_first
from transship.domain.policies import Action
from transship.domain.visibility import refuse_deactivated

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/octet-stream"

_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from ``start`` up to but excluding ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


def download_image(call: Call) -> Response:
    """``GET /v2/images/{image_id}/file``: download the image's data."""
    with call.site.catalog.statement() as connection:
        image = get_image(connection, call.image_id)
    call.require(Action.DOWNLOAD_IMAGE, image)
    refuse_deactivated(call.viewer, image)
    if not image.locations:
        return Response(status_code=204)
    size = image.locations[0].size if image.size is None else image.size
    headers = call.request.headers
    part = parse_range(headers.get("range"), headers.get("content-range"), size)
    pieces = _pieces(call, image, part or ByteRange(0, size), size)
    return StreamingResponse(pieces, 206 if part else 200, _headers(image, part, size), media_type=MEDIA_TYPE)


def parse_range(asked: str | None, legacy: str | None, size: int) -> ByteRange | None:
    """Return the range that a request asks for; None for the whole image.

    Args:
        asked: the Range header.
        legacy: the Content-Range header, which old clients use instead.
        size: bytes of the image data.

    Raises:
        BadRequest: several ranges at once.
        RangeUnsatisfiable: the header is malformed, or the range is outside of the data.

    Source: RFC 9110, section 14; Glance for the refusal of malformed headers.
    """
    if asked is not None:
        return _from_range(asked, size)
    if legacy is not None:
        return _from_content_range(legacy, size)
    return None


def _from_range(asked: str, size: int) -> ByteRange:
    if "," in asked:
        raise BadRequest("Requests with several ranges are not supported", "send one request for each range")
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        raise RangeUnsatisfiable(asked, size)
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    if start >= stop:
        raise RangeUnsatisfiable(asked, size)
    return ByteRange(start, stop)


def _from_content_range(asked: str, size: int) -> ByteRange:
    found = _CONTENT_RANGE.fullmatch(asked.strip())
    if found is None:
        raise RangeUnsatisfiable(asked, size)
    start, stop = int(found[1]), int(found[2]) + 1
    if start >= stop or stop > size:
        raise RangeUnsatisfiable(asked, size)
    return ByteRange(start, stop)


def _headers(image: Image, part: ByteRange | None, size: int) -> dict[str, str]:
    if part is not None:
        return {
            "Content-Length": str(part.length),
            "Content-Range": f"bytes {part.start}-{part.stop - 1}/{size}",
        }
    checksum = {"Content-MD5": image.checksum} if image.checksum else {}
    return {"Content-Length": str(size), **checksum}


def _pieces(call: Call, image: Image, part: ByteRange, size: int) -> Iterator[bytes]:
    """Return the data from the best store that holds the whole image and can read the first piece.

    Raises:
        ImageDataUnavailable: no store can; each store's reason is in the log.
    """
    for location in best_first(image.locations, call.site.stores.facts()):
        try:
            return _read(call, location, part, size)
        except (ObjectMissing, StoredDiffers, StoreUnavailable, StoreDenied, StoreUnknown) as error:
            log.warning("store cannot be read", image_id=image.id, store=location.store, reason=str(error))
    raise ImageDataUnavailable(image.id)


def _read(call: Call, location: Location, part: ByteRange, size: int) -> Iterator[bytes]:
    with ExitStack() as held:
        driver = held.enter_context(call.site.stores.using(location.store))
        found = driver.size(location.url)
        if found != size:
            raise StoredDiffers(location.store, f"{size} bytes", f"{found} bytes")
        pieces = _until_read(driver.read(location.url, part.start, part.length), held.pop_all())
    next(pieces)
    return pieces


def _until_read(pieces: Iterator[bytes], held: ExitStack) -> Iterator[bytes]:
    """Yield pieces, the first one empty; release what is held after the last piece, or when reading stops."""
    with held:
        yield b""  # a generator that was never started would not release anything
        yield from pieces
