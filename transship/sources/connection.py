"""A connection to a judged address or to the operator's proxy, the one request sent over it, and its response.

No wait lasts longer than a tenth of a second. So limits and cancels take effect in the middle of a header line, in the
body, and while a server is silent. http.client parses the headers once all of them have arrived.
"""

from __future__ import annotations

import http.client
import io
import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from enum import Enum, auto
from typing import Final, Self

import structlog

from transship.sources.answer import Framing, framing_of, is_interim, is_stray_line
from transship.sources.dialling import STEP_S, ConnectionBroken
from transship.sources.gate import Admitted
from transship.sources.watch import Waiting

log = structlog.get_logger(__name__)

FRAMING_LIMIT_BYTES: Final = 1024 * 1024
"""Most consecutive bytes of headers, interim responses or trailers without image data."""

MOST_HEADERS: Final = 99
LONGEST_LINE: Final = 65536

_BLOCK_BYTES: Final = 64 * 1024
_SURPLUS_WAIT_S: Final = 0.1
_STATUS: Final = re.compile(rb"HTTP/1\.\S*[ \t]+([1-9]\d\d)\s")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class CertificateRefused(Exception):
    """The server's certificate does not prove the requested name.

    Args:
        reason: OpenSSL's message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HeadTooLarge(ConnectionBroken):
    """The server sent too many or too large headers."""


class _ChunkPart(Enum):
    """What the next line of a chunked body is."""

    SIZE = auto()
    END = auto()
    TRAILER = auto()
    NOTHING = auto()


class Connection:
    """A connected socket and the response read from it. Use as a context manager.

    Attributes:
        source: what is requested.
        status: of the response; 0 until its status line has arrived.
        headers: of the response.
    """

    def __init__(self, connected: socket.socket, source: Admitted, watch: Waiting) -> None:
        connected.setblocking(False)
        self.source = source
        self.status = 0
        self.headers = Message()
        self._socket = connected
        self._watch = watch
        self._broken: ConnectionBroken | None = None
        self._ahead, self._at = b"", 0  # bytes received but not yet parsed, and how many of them were consumed
        self._framing_bytes = 0
        self._framing: Framing | None = None
        self._left_bytes: int | None = None
        self._at_end = False
        self._stray_lines = 0
        self._chunk_part = _ChunkPart.SIZE
        self._when_closed: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def display(self) -> str:
        """The requested URI, for display."""
        return self.source.uri.display

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._socket.close()
        then, self._when_closed = self._when_closed, lambda: None
        then()

    def when_closed(self, then: Callable[[], None]) -> None:
        """Call ``then`` once, after the connection has been closed."""
        self._when_closed = then

    def set_watch(self, watch: Waiting) -> None:
        """Use another watch from now on."""
        self._watch = watch

    # --- the request ---------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        """Encrypt the connection, with ``host`` as the name that the certificate must prove.

        Bytes received before are discarded: they must not be read as if they had been encrypted.

        Raises:
            CertificateRefused: it does not.
            ConnectionBroken: the TLS handshake failed or took too long.
        """
        ends_at = time.monotonic() + timeout_s
        try:
            secured = context.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._socket = secured
            while True:
                try:
                    secured.do_handshake()
                    break
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
                    self._watch.check()
                    if time.monotonic() >= ends_at:
                        raise ConnectionBroken("no TLS handshake in time") from wants
                    self._poll(self._wanted(wants), STEP_S)
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(error.verify_message) from error
        except (OSError, ValueError) as error:
            raise ConnectionBroken(f"TLS failed: {error}") from error
        self._ahead, self._at, self._at_end, self.status = b"", 0, False, 0

    def send(self, data: bytes) -> None:
        """Send a request.

        Raises:
            ConnectionBroken: the connection was closed.
            TransferFailed, LockLost: a limit of the watch.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError as error:
                self._wait(self._wanted(error))

    def read_head(self) -> None:
        """Read status and headers of the response, and skip interim responses.

        Raises:
            HeadTooLarge: too many or too large headers.
            ConnectionBroken: this is not HTTP, or it ended within the headers.
            TransferFailed, LockLost: a limit of the watch.
        """
        lines: list[bytes] = []
        while not self._take_head(lines):
            self._receive()
        self.headers = http.client.parse_headers(io.BytesIO(b"".join(lines[1:])))

    def _take_head(self, lines: list[bytes]) -> bool:
        """Move received lines of the head into ``lines``; return whether the head is complete.

        Stray lines are dropped: the parser would stop at the first one.
        """
        while (line := self._line()) is not None:
            if not lines:
                status = _STATUS.match(line)
                if status is None:
                    raise ConnectionBroken(f"no HTTP answer: {line[:60]!r}")
                self.status = 0 if is_interim(line) else int(status[1])
                lines.append(line)
            elif line in (b"\r\n", b"\n"):
                if self.status:
                    return True
                lines.clear()
            elif not line.endswith(b"\n"):
                raise ConnectionBroken("the headers were cut off")
            elif is_stray_line(line):
                if not self._stray_lines:
                    log.warning("malformed header line ignored", uri=self.display, line=line[:60])
                self._stray_lines += 1
            elif len(lines) > MOST_HEADERS:
                raise HeadTooLarge(f"more than {MOST_HEADERS} headers")
            else:
                lines.append(line)
        return False

    # --- the body ------------------------------------------------------------------------------

    def framing(self) -> Framing:
        """Return how the body ends; call this before reading the body.

        Raises:
            SourceRefused: the head is contradictory, or the body is encoded.
        """
        if self._framing is None:
            self._framing = framing_of(self.display, self.status, self.headers)
            self._left_bytes = 0 if self._framing.chunked else self._framing.length
        return self._framing

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes of the body into ``buffer`` and return how many; 0 at the proper end.

        Waits only for the first byte.

        Raises:
            ConnectionBroken: the body ended before its end.
            TransferFailed, LockLost: a limit of the watch.
        """
        if self._broken is not None:
            raise self._broken
        while self.framing().chunked and not self._left_bytes and not self._next_chunk():
            self._receive()
        if self._left_bytes is not None:
            buffer = buffer[: self._left_bytes]
        if self._at < len(self._ahead):
            read = min(len(buffer), len(self._ahead) - self._at)
            buffer[:read] = memoryview(self._ahead)[self._at : self._at + read]
            self._at += read
        else:
            read = 0
            while read < len(buffer):
                try:
                    received = self._socket.recv_into(buffer[read:])
                except OSError as error:
                    if not read:
                        self._wait(self._wanted(error))
                        continue
                    with suppress(ConnectionBroken):  # raised by the next call
                        self._wanted(error)
                    break
                if not received:
                    break
                read += received
            self._watch.heard(read)
        self._framing_bytes = 0
        if self._left_bytes:
            if not read:
                where = "within a chunk" if self.framing().chunked else "before the announced end"
                raise ConnectionBroken(f"the connection was closed {where}")
            self._left_bytes -= read
        return read

    def _next_chunk(self) -> bool:
        """Advance to the next chunk or past the last one (RFC 9112, section 7.1); False if more bytes are needed.

        Raises:
            ConnectionBroken: the body ended before its last chunk, or the bytes between two chunks are malformed.
        """
        while self._chunk_part is not _ChunkPart.NOTHING:
            line = self._line()
            if line is None:
                return False
            if self._chunk_part is _ChunkPart.END:
                if line != b"\r\n":
                    raise ConnectionBroken("a chunk does not end where its size says")
                self._chunk_part = _ChunkPart.SIZE
            elif self._chunk_part is _ChunkPart.SIZE:
                size = _CHUNK_SIZE.fullmatch(line)
                if size is None:
                    raise ConnectionBroken("the chunks ended without the last one, or a chunk's size is none")
                self._left_bytes = int(size[1], 16)
                self._chunk_part = _ChunkPart.END if self._left_bytes else _ChunkPart.TRAILER
                if self._left_bytes:
                    break
            elif line in (b"\r\n", b"\n", b""):  # some servers close instead of sending the last empty line
                self._chunk_part = _ChunkPart.NOTHING
        return True

    @property
    def has_more(self) -> bool:
        """Whether announced bytes are missing; False if no length was announced."""
        return bool(self._left_bytes) and not self.framing().chunked

    def has_surplus(self) -> bool:
        """Whether more than the announced length arrives within a moment; call this after the end."""
        if self.framing().length is None:
            return False
        if self._at < len(self._ahead):
            return True
        with suppress(OSError):
            return bool(self._socket.recv(1))
        self._poll(select.POLLIN, _SURPLUS_WAIT_S)
        with suppress(OSError):
            return bool(self._socket.recv(1))
        return False

    # --- the socket ----------------------------------------------------------------------------

    def _line(self) -> bytes | None:
        """Return the next line with its line end; the rest at the end of the stream; None if it is incomplete."""
        end = self._ahead.find(b"\n", self._at) + 1 or len(self._ahead)
        line = self._ahead[self._at : end]
        if len(line) > LONGEST_LINE:
            raise HeadTooLarge(f"a line of more than {LONGEST_LINE} bytes")
        if not line.endswith(b"\n") and not self._at_end:
            return None
        self._at = end
        return line

    def _receive(self) -> None:
        """Wait for bytes and add them to the read-ahead buffer, or note the end of the stream."""
        if self._broken is not None:
            raise self._broken
        if self._framing_bytes > FRAMING_LIMIT_BYTES:
            raise HeadTooLarge("headers without end")
        while True:
            try:
                received = self._socket.recv(_BLOCK_BYTES)
                break
            except OSError as error:
                self._wait(self._wanted(error))
        self._ahead, self._at, self._at_end = self._ahead[self._at :] + received, 0, not received
        self._framing_bytes += len(received)
        self._watch.heard(len(received))

    def _wanted(self, error: OSError) -> int:
        """Return the events that a socket call must wait for.

        Raises:
            ConnectionBroken: the call failed, and so will every later one.
        """
        if isinstance(error, ssl.SSLWantWriteError):
            return select.POLLOUT
        if isinstance(error, (BlockingIOError, ssl.SSLWantReadError)):
            return select.POLLIN
        self._broken = ConnectionBroken(f"the connection broke: {error}")
        raise self._broken from error

    def _wait(self, events: int) -> None:
        started = time.monotonic()
        self._poll(events, STEP_S)
        # Time beyond one step is due to this machine being suspended or busy, not to the source.
        self._watch.waited(min(time.monotonic() - started, STEP_S))

    def _poll(self, events: int, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(self._socket, events)
        poller.poll(timeout_s * 1000)
