"""The HTTP protocol of the API's connections: uvicorn's, with limits on what an unauthenticated client may send.

One thread parses the headers of all connections before any of our checks, so their size and duration
are limited here. Bodies are limited where they are read (`transship.api.bodies`, `transship.api.uploads`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from transship.api.errors import refusal

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

log = structlog.get_logger(__name__)

LARGEST_HEAD_BYTES: Final = 64 * 1024
"""Most bytes of a request line with its headers, or of trailers; a Keystone token needs less than 16 KiB."""

MOST_HEADERS: Final = 256
"""Most headers and trailers of one request."""

_TOO_LARGE: Final = (
    f"The request has more than {LARGEST_HEAD_BYTES // 1024} KiB in its request line and headers,"
    f" or more than {MOST_HEADERS} headers."
)
_TOO_SLOW: Final = "The headers of the request did not arrive in time."
_MALFORMED: Final = "Invalid HTTP request received."


class HeadTooLarge(ValueError):
    """A request has too large or too many headers. Raised only in the parser's callbacks."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection whose request headers are limited in size, number and time.

    A request that exceeds a limit is answered with 431 or 408, and the connection is closed.
    """

    head_timeout_s: ClassVar[float] = 60.0
    """Longest time from connecting, or from a later request's first byte, to the end of the headers."""

    linger_s: ClassVar[float] = 5.0
    """How long further data of a refused client are read and dropped, so the client can read the response."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._unread_bytes = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Start waiting for a request."""
        super().connection_made(transport)
        self._start_timer(self.head_timeout_s, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after the connection is closed."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, unless the connection's request was refused."""
        if self._refused:
            return
        if self._timer is None and not self._answering():
            self._start_timer(self.head_timeout_s, self._head_timed_out)
        # Until it calls back, the parser keeps an unfinished header and copies it again with each piece.
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > LARGEST_HEAD_BYTES and not self._refused:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)

    # --- callbacks of the parser ---

    def on_message_begin(self) -> None:
        """Start a request."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Receive a piece of the request line."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header, or a trailer of a chunked body."""
        self._count(name + value)
        if len(self.headers) >= MOST_HEADERS:
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Answer the request whose headers are complete."""
        self._stop_timer()
        self._unread_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receive a piece of the body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._unread_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that the parser, or one of our callbacks, refused."""
        if self._head_bytes > LARGEST_HEAD_BYTES or len(self.headers or ()) >= MOST_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, _MALFORMED)

    # ---

    def _count(self, piece: bytes) -> None:
        self._head_bytes += len(piece)
        if self._head_bytes > LARGEST_HEAD_BYTES:
            raise HeadTooLarge

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares it without None but starts with None
        return cycle is not None and not cycle.response_complete

    def _head_timed_out(self) -> None:
        if self._unread_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, _TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, explanation: str) -> None:
        self._refused = True
        self._stop_timer()
        log.warning("request refused", status=status.value, reason=explanation)
        if self._answering():
            if self.cycle.response_started:
                # A second response in the middle of the first one would look like a part of it.
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = refusal(status, explanation, "application/json", {"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
        self.transport.write(line + head + b"\r\n" + bytes(answer.body))
        # Closing with unread data would reset the connection, and the client would lose the response.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_timer(self.linger_s, self.transport.close)

    def _start_timer(self, after_s: float, callback: Callable[[], None]) -> None:
        self._timer = self.loop.call_later(after_s, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
