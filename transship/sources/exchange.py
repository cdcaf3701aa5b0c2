"""One HTTP request and its answer, over a connection to a judged address or to the operator's proxy.

http.client parses; the wire below it waits. Nothing is taken from the environment: no proxy, no
credentials, no cookies.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from functools import cache
from importlib.metadata import version
from types import TracebackType
from typing import Self, cast

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    SourceRefused,
    SourceTooSlow,
    SourceUnreachable,
    SourceUntrusted,
    TransferFailed,
)
from transship.sources.answer import Framing, framing_of, is_interim, is_stray_line
from transship.sources.chunks import Chunks
from transship.sources.gate import Admitted
from transship.sources.proxy import Proxy, open_tunnel
from transship.sources.watch import Waiting
from transship.sources.wire import CertificateRefused, FramingFlood, Wire, WireBroken, dial

log = structlog.get_logger(__name__)

NO_ANSWER = "its server gave no HTTP answer"
"""The one reason for closed, filtered, silent and non-HTTP ports, so that imports are no port scanner."""


@cache
def user_agent() -> str:
    """Return the ``User-Agent`` of downloads."""
    return f"transship/{version('transship')}"


class Exchange:
    """An answer whose head was read and whose body is still to come. Use as a context manager.

    Attributes:
        source: what was asked, and where.
    """

    def __init__(self, source: Admitted, wire: Wire, response: http.client.HTTPResponse) -> None:
        self.source = source
        self._wire = wire
        self._response = response
        self._framing: Framing | None = None
        self._chunks = Chunks(wire.reader)
        self._left_bytes: int | None = None
        self._when_closed: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Message:
        """Headers of the answer."""
        return self._response.headers

    @property
    def display(self) -> str:
        """The URI that answered, for people."""
        return self.source.uri.display

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        self._response.close()
        self._wire.hang_up()
        then, self._when_closed = self._when_closed, lambda: None
        then()

    def when_closed(self, then: Callable[[], None]) -> None:
        """Call ``then`` once, after the connection was closed."""
        self._when_closed = then

    def framing(self) -> Framing:
        """Return how the body ends; to be asked before it is read.

        Raises:
            SourceRefused: the head contradicts itself, or the body is encoded.
        """
        if self._framing is None:
            self._framing = framing_of(self.display, self.status, self.headers)
            self._left_bytes = self._framing.length
        return self._framing

    def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes of the body into ``buffer`` and return how many; 0 at the proper end.

        Raises:
            WireBroken: the body ended before its end.
            TransferFailed, LockLost: a limit of the watch.
        """
        if self.framing().chunked:
            read = self._chunks.read_into(buffer)
        elif self._left_bytes is None:
            read = self._wire.reader.readinto1(buffer)
        else:
            read = self._wire.reader.readinto1(buffer[: self._left_bytes]) if self._left_bytes else 0
            if not read and self._left_bytes:
                raise WireBroken("the connection was closed before the announced end")
            self._left_bytes -= read
        self._wire.image_data_came()
        return read

    def hand_to(self, watch: Waiting) -> None:
        """Let another watch end the rest of the answer."""
        self._wire.hand_to(watch)

    @property
    def goes_on(self) -> bool:
        """Whether announced bytes are still to come; False where none were announced."""
        return bool(self._left_bytes)

    def has_surplus(self) -> bool:
        """Whether more came than the announced length; to be asked after the end."""
        return self.framing().length is not None and self._wire.has_surplus()


@dataclass(frozen=True, slots=True)
class Line:
    """How sources are reached.

    Attributes:
        tls: settings for https.
        limits: how long to wait.
        proxy: what to go through where the gate says so.
        tls_behind_proxy: settings for https there, None: the same; its authorities count nowhere else.
    """

    tls: ssl.SSLContext
    limits: DownloadSettings
    proxy: Proxy | None = None
    tls_behind_proxy: ssl.SSLContext | None = None


def ask(source: Admitted, wanted: Mapping[str, str], line: Line, watch: Waiting) -> Exchange:
    """Send a GET and return the answer once its head is there.

    Args:
        source: what to ask for; only its addresses are dialled, or the proxy's; its name goes into SNI,
            certificate check and ``Host``.
        wanted: further headers, e.g. ``Range``.
        line: how to reach it.
        watch: ends the wait.

    Raises:
        SourceUnreachable: no connection, no TLS, or no HTTP answer.
        SourceUntrusted: the certificate does not prove the name.
        SourceRefused: headers without measure.
        TransferFailed, LockLost: a limit of the watch; silence before the status line is no answer.
    """
    uri = source.uri
    watch.uri = uri.display
    try:
        wire = _connected(source, line, watch)
    except WireBroken as broken:
        log.info("source not connected", uri=uri.display, addresses=source.addresses, reason=broken.reason)
        raise SourceUnreachable(uri.display, NO_ANSWER) from broken
    except CertificateRefused as refused:
        raise SourceUntrusted(uri.display, refused.reason) from refused
    # http.client wants a socket, of which it uses nothing but makefile().
    response = http.client.HTTPResponse(cast(socket.socket, wire), method="GET")
    exchange = Exchange(source, wire, response)
    with ExitStack() as undo:
        undo.callback(exchange.close)
        try:
            wire.sendall(_request(source, wanted, _proxy_for(source, line)))
            with wire.reader.leaving_out(_LinesOfNoUse(uri.display)):
                response.begin()
            wire.refuse_cut_line()
        except SourceTooSlow as error:
            if _spoke_http(response):
                raise
            raise _no_answer(source, response, error) from error
        except (WireBroken, http.client.HTTPException) as error:
            raise _no_answer(source, response, error) from error
        undo.pop_all()
    return exchange


class _LinesOfNoUse:
    """Knows the lines that the parser must not see: interim answers, and lines of a head that are no headers.

    The parser takes interim answers but 100 for the real one, and gives up at the first stray line.
    """

    def __init__(self, display: str) -> None:
        self._display = display
        self._in_head = self._in_interim = self._told = False

    def __call__(self, line: bytes) -> bool:
        """Whether to leave out a line; never one before a status line, where it means that this is no HTTP."""
        if self._in_interim:
            self._in_interim = bool(line.strip(b"\r\n"))
            return True
        if not self._in_head and is_interim(line):
            self._in_interim = True
            return True
        if line.startswith(b"HTTP/"):
            self._in_head = True
        elif not line.strip(b"\r\n"):
            self._in_head = False
        stray = self._in_head and is_stray_line(line)
        if stray and not self._told:
            self._told = True
            log.warning("header line left out, it is no header", uri=self._display, line=line[:60])
        return stray


def _connected(source: Admitted, line: Line, watch: Waiting) -> Wire:
    started = time.monotonic()
    uri = source.uri
    limit_s = line.limits.connect_timeout_s
    proxy = _proxy_for(source, line)
    with ExitStack() as undo:
        if proxy is None:
            wire = Wire(dial(source.addresses, uri.effective_port, limit_s, watch.stop), watch)
            undo.callback(wire.hang_up)
        else:
            wire = proxy.connect(uri, limit_s, watch)
            undo.callback(wire.hang_up)
            if uri.scheme == "https":
                open_tunnel(wire, uri, proxy)
        if uri.scheme == "https":
            tls = line.tls if proxy is None else line.tls_behind_proxy or line.tls
            wire.start_tls(tls, uri.host, limit_s - (time.monotonic() - started))
        undo.pop_all()
    return wire


def _proxy_for(source: Admitted, line: Line) -> Proxy | None:
    return line.proxy if source.proxied else None


def _request(source: Admitted, wanted: Mapping[str, str], proxy: Proxy | None) -> bytes:
    uri = source.uri
    headers = {
        "Host": uri.authority,
        "User-Agent": user_agent(),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **wanted,
    }
    target = uri.target
    if proxy is not None and uri.scheme == "http":
        target = uri.text
        headers |= proxy.credentials
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


def _no_answer(source: Admitted, response: http.client.HTTPResponse, error: Exception) -> TransferFailed:
    display = source.uri.display
    log.info("source without a usable answer", uri=display, addresses=source.addresses, reason=repr(error))
    too_much = isinstance(error, (FramingFlood, http.client.HTTPException))
    if _spoke_http(response) and too_much and not isinstance(error, http.client.UnknownProtocol):
        return SourceRefused(display, response.status, "its headers are longer or more than HTTP clients accept")
    return SourceUnreachable(display, NO_ANSWER)


def _spoke_http(response: http.client.HTTPResponse) -> bool:
    """Whether a status line came; until then http.client holds a placeholder in the place of the status."""
    status: object = response.status
    return isinstance(status, int)
