"""A path of the API with one operation per method, run in a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from config.settings import ApiSettings
from transship.api.base_url import base_url
from transship.api.bodies import read_body
from transship.api.errors import error_response, refusal
from transship.api.site import Call, Site, identify
from transship.domain.errors import TransshipError

Operation = Callable[[Call], Response]
"""Answers one request. It may block, e.g. on the catalogue or a store."""

Streaming = Callable[[Call], Awaitable[Response]]
"""Answers one request whose body it reads itself, piece by piece; it must not block the event loop."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """Marks an operation that reads the body itself."""

    operation: Streaming


_STANDARD_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Resource:
    """The operations of one path.

    Args:
        site: shared by all requests.
        operations: by method, upper case.
    """

    def __init__(self, site: Site, operations: Mapping[str, Operation | Streamed]) -> None:
        self._site = site
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        operation = self._operations.get(request.method)
        if operation is None:
            allowed = ", ".join(self._operations)
            explanation = f"The method {request.method} is not allowed for this resource."
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, explanation, accept, {"Allow": allowed})
        try:
            if isinstance(operation, Streamed):
                caller = identify(request, request.scope["state"]["request_id"])
                return await operation.operation(Call(self._site, caller, request, b""))
            body = await read_body(request, self._site.settings.api.max_body_bytes)
            caller = identify(request, request.scope["state"]["request_id"])
            return await run_in_threadpool(operation, Call(self._site, caller, request, body))
        except TransshipError as error:
            return error_response(error, accept)
        except ClientDisconnect:
            return refusal(HTTPStatus.BAD_REQUEST, "The client went away before its request was complete.", accept)


class ToDirectory:
    """Answers the path ``/v2`` as Glance does: with a redirect to ``/v2/``, which does not exist.

    Args:
        settings: where links lead.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        location = f"{base_url(scope, self._settings)}/v2/"
        await Response(status_code=HTTPStatus.FOUND, headers={"Location": location})(scope, receive, send)


class NotFound:
    """Answers every path that the API does not have."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request = Request(scope, receive)
        accept = request.headers.get("accept", "")
        if request.method in _STANDARD_METHODS:
            response = refusal(HTTPStatus.NOT_FOUND, "The resource could not be found.", accept)
        else:
            response = refusal(HTTPStatus.NOT_IMPLEMENTED, f"The method {request.method} is not implemented.", accept)
        await response(scope, receive, send)
