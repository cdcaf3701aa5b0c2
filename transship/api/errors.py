"""Error responses: the table of HTTP statuses, and bodies in the form that Glance's clients parse."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from transship.domain.errors import (
    AlreadyStored,
    BodyTooLarge,
    CatalogUnavailable,
    Conflict,
    CopyBeingRemoved,
    DataTypeRefused,
    Forbidden,
    FormatMismatch,
    FormatUnsafe,
    HostGone,
    IdentityUnavailable,
    ImageDataUnavailable,
    ImageGone,
    ImageNotFound,
    ImageTooLarge,
    ImportStopped,
    LocationTaken,
    MediaTypeRefused,
    MemberNotFound,
    MethodNotOffered,
    NamesUnanswered,
    NotInStore,
    ProjectOverQuota,
    QuotaExceeded,
    RangeUnsatisfiable,
    RequestIdTooLong,
    RequestRefused,
    StagingFull,
    StagingUnusable,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TagNotFound,
    TaskNotFound,
    TransshipError,
    Unauthenticated,
    UploadEmpty,
    UploadTooSlow,
)

STATUS: Final[Mapping[type[TransshipError], HTTPStatus]] = {
    RequestRefused: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    ImageNotFound: HTTPStatus.NOT_FOUND,
    TaskNotFound: HTTPStatus.NOT_FOUND,
    TagNotFound: HTTPStatus.NOT_FOUND,
    MemberNotFound: HTTPStatus.NOT_FOUND,
    MethodNotOffered: HTTPStatus.NOT_FOUND,
    NotInStore: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    AlreadyStored: HTTPStatus.CONFLICT,
    LocationTaken: HTTPStatus.CONFLICT,
    ImageGone: HTTPStatus.GONE,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ProjectOverQuota: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    StagingFull: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    StoreFull: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeRefused: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    DataTypeRefused: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FormatMismatch: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FormatUnsafe: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UploadEmpty: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RangeUnsatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    RequestIdTooLong: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    StagingUnusable: HTTPStatus.SERVICE_UNAVAILABLE,
    ImportStopped: HTTPStatus.SERVICE_UNAVAILABLE,
    CopyBeingRemoved: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreDenied: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    CatalogUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ImageDataUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    HostGone: HTTPStatus.GATEWAY_TIMEOUT,
    IdentityUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    NamesUnanswered: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Status of each error class; an unlisted class has its nearest listed ancestor's."""

UNEXPECTED: Final = "The server has either erred or is incapable of performing the requested operation."


def http_status(error: TransshipError) -> HTTPStatus:
    """Return the status of an error's class; 500 if it has none."""
    return status_of(type(error)) or HTTPStatus.INTERNAL_SERVER_ERROR


def status_of(kind: type[TransshipError]) -> HTTPStatus | None:
    """Return the status of the nearest listed ancestor; None if none is listed."""
    return next((STATUS[each] for each in kind.__mro__ if each in STATUS), None)


def error_response(error: TransshipError, accept: str) -> Response:
    """Return the response for a request that failed with an error.

    Args:
        accept: the request's Accept header; empty when not sent.
    """
    return refusal(http_status(error), str(error), accept, _headers(error))


def _headers(error: TransshipError) -> Mapping[str, str]:
    match error:
        case MediaTypeRefused():
            return {"Accept-Patch": ", ".join(error.accepted)}
        case Unauthenticated():
            return {"WWW-Authenticate": f'Keystone uri="{error.uri}"'}
        case RangeUnsatisfiable():
            return {"Content-Range": f"bytes */{error.size}"}
    return {}


def refusal(status: HTTPStatus, explanation: str, accept: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response as HTML, JSON or text, whichever the caller prefers.

    Source: WebOb's ``webob.exc.WSGIHTTPException``, whose bodies Glance's clients parse.
    """
    kind = preferred_type(accept, ("text/html", "application/json"))
    title = f"{status.value} {status.phrase}"
    if kind == "text/html":
        body = f"{html.escape(explanation)}<br /><br />\n\n\n"
        content = (
            f"<html>\n <head>\n  <title>{title}</title>\n </head>\n"
            f" <body>\n  <h1>{title}</h1>\n  {body}\n </body>\n</html>"
        )
    elif kind == "application/json":
        content = json.dumps({"message": f"{explanation}<br /><br />\n\n\n", "code": title, "title": status.phrase})
    else:
        kind = "text/plain"
        content = f"{title}\n\n{explanation}\n\n\n\n"
    media_type = kind if kind == "application/json" else f"{kind}; charset=UTF-8"
    return Response(content, status.value, dict(headers or {}), media_type=media_type)


def preferred_type(accept: str, offers: tuple[str, ...]) -> str:
    """Return the offer that an Accept header prefers; empty when it accepts none of them.

    Of equal offers the first one wins. An empty header accepts none, as in WebOb.

    Source: RFC 9110, section 12.5.1.
    """
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    qualities = {offer: _quality(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: qualities[offer])
    return best if qualities[best] > 0 else ""


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0


def _quality(offer: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that covers the offer."""
    for name in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        found = [quality for range_name, quality in ranges if range_name == name]
        if found:
            return max(found)
    return 0.0
