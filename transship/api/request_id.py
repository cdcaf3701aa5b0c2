"""The outermost middleware: adds request ids, logs each request, and handles unexpected errors."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transship.api.errors import UNEXPECTED, error_response, refusal
from transship.domain.errors import RequestIdTooLong

HEADER: Final = "x-openstack-request-id"

log = structlog.get_logger(__name__)

_USABLE: Final = re.compile(r"[A-Za-z0-9._:-]+")


class RequestIds:
    """Give each request an id, and log its outcome.

    A caller's own id is kept and prefixed with ``req-``, as in Glance.

    Args:
        app: handles the requests.
        max_length: longest id accepted, in characters.
    """

    def __init__(self, app: ASGIApp, max_length: int) -> None:
        self._app = app
        self._max_length = max_length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked, accept = headers.get(HEADER, ""), headers.get("accept", "")
        request_id = _request_id(asked if len(asked) <= self._max_length else "")
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        begun = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if len(asked) > self._max_length:
                    too_long = error_response(RequestIdTooLong(self._max_length), accept)
                    await too_long(scope, receive, answer.send)
                else:
                    await self._app(scope, receive, answer.send)
            except Exception:
                # Whatever the error was, the client gets a response.
                log.exception("request failed", method=scope["method"], path=scope["path"])
                # A response that has started cannot be replaced; ending here makes the server close the connection.
                if answer.status == 0:
                    response = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED, accept)
                    await response(scope, receive, answer.send)
            _log_answer(scope, answer.status, time.monotonic() - begun)


class _Answer:
    """Sends one response, adds its request id and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[HEADER] = self._request_id
        await self._send(message)


def _request_id(asked: str) -> str:
    if not _USABLE.fullmatch(asked):
        return f"req-{uuid4()}"
    return asked if asked.startswith("req-") else f"req-{asked}"


def _log_answer(scope: Scope, status: int, took_s: float) -> None:
    # Clients poll images and tasks, and supervisors the health, every few seconds; downloads are worth a line.
    polled = scope["method"] in ("GET", "HEAD") and status < HTTPStatus.BAD_REQUEST
    write = log.debug if polled and not scope["path"].endswith("/file") else log.info
    write("request", method=scope["method"], path=scope["path"], status=status, took_ms=round(took_s * 1000))
