"""A connection to a judged address or to the operator's proxy, the one request sent over it, and its answer.

No wait is longer than a tenth of a second: limits hold in the middle of a header line as they do in the body, and a
cancel is seen while a server is silent. http.client parses the headers once all of them are there.
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
from types import TracebackType
from typing import Final, Self

import structlog

from transship.sources.answer import Framing, framing_of, is_interim, is_stray_line
from transship.sources.dialling import STEP_S, ConnectionBroken
from transship.sources.gate import Admitted
from transship.sources.watch import Waiting

log = structlog.get_logger(__name__)

FRAMING_LIMIT_BYTES: Final = 1024 * 1024
"""Most bytes in a row that are headers, interim answers or trailers and not image data."""

MOST_HEADERS: Final = 99
LONGEST_LINE: Final = 65536

_BLOCK_BYTES: Final = 64 * 1024
_SURPLUS_WAIT_S: Final = 0.1
_STATUS: Final = re.compile(rb"HTTP/1\.\S*[ \t]+([1-9]\d\d)\s")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class CertificateRefused(Exception):
    """The server's certificate does not prove the name that was asked for.

    Args:
        reason: OpenSSL's words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HeadTooLarge(ConnectionBroken):
    """The server sends more headers, or longer ones, than HTTP clients accept."""


class Connection:
    """A connected socket and the answer that comes over it. Use as a context manager.

    Attributes:
        source: what is asked for.
        status: of the answer; 0 until its status line came.
        headers: of the answer.
    """

    def __init__(self, connected: socket.socket, source: Admitted, watch: Waiting) -> None:
        connected.setblocking(False)
        self.source = source
        self.status = 0
        self.headers = Message()
        self._socket = connected
        self._watch = watch
        self._broken: ConnectionBroken | None = None
        self._ahead, self._at = b"", 0  # what was received beyond the last line, and how much of it was used
        self._framing_bytes = 0
        self._framing: Framing | None = None
        self._left_bytes: int | None = None
        self._in_chunks = self._ended = False
        self._when_closed: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def display(self) -> str:
        """The URI that answers, for people."""
        return self.source.uri.display

    def close(self) -> None:
        """Close the connection; closing it again does nothing."""
        self._socket.close()
        then, self._when_closed = self._when_closed, lambda: None
        then()

    def when_closed(self, then: Callable[[], None]) -> None:
        """Call ``then`` once, after the connection was closed."""
        self._when_closed = then

    def hand_to(self, watch: Waiting) -> None:
        """Let another watch end the waits from now on."""
        self._watch = watch

    # --- asking --------------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        """Encrypt the connection, with ``host`` as the name that the certificate must prove.

        What came before is forgotten: it must not be read as if it had come through the encryption.

        Raises:
            CertificateRefused: it does not.
            ConnectionBroken: no TLS on the other side, or not in time.
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
        self._ahead, self._at, self.status = b"", 0, 0

    def send(self, data: bytes) -> None:
        """Send a request.

        Raises:
            ConnectionBroken: the connection ended.
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
        """Read status and headers of the answer, and pass over the interim answers before it.

        Raises:
            HeadTooLarge: too many or too long headers.
            ConnectionBroken: this is no HTTP, or ended within the headers.
            TransferFailed, LockLost: a limit of the watch.
        """
        while True:
            status_line = self._line()
            status = _STATUS.match(status_line)
            if status is None:
                raise ConnectionBroken(f"no HTTP answer: {status_line[:60]!r}")
            if not is_interim(status_line):
                self.status = int(status[1])
                self.headers = http.client.parse_headers(io.BytesIO(self._header_block()))
                return
            self._header_block()

    def _header_block(self) -> bytes:
        """Return the lines up to the empty one, without those that are no headers.

        The parser gives up at the first line that is none, and takes headers that were cut for whole.
        """
        lines, told = [b""], False
        while (line := self._line()) not in (b"\r\n", b"\n"):
            if not line.endswith(b"\n"):
                raise ConnectionBroken("the headers were cut off")
            if not is_stray_line(line):
                lines.append(line)
            elif not told:
                told = True
                log.warning("header line left out, it is no header", uri=self.display, line=line[:60])
            if len(lines) > MOST_HEADERS + 1:
                raise HeadTooLarge(f"more than {MOST_HEADERS} headers")
        return b"".join(lines)

    # --- the body ------------------------------------------------------------------------------

    def framing(self) -> Framing:
        """Return how the body ends; to be asked before it is read.

        Raises:
            SourceRefused: the head contradicts itself, or the body is encoded.
        """
        if self._framing is None:
            self._framing = framing_of(self.display, self.status, self.headers)
            self._left_bytes = 0 if self._framing.chunked else self._framing.length
        return self._framing

    def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes of the body into ``buffer`` and return how many; 0 at the proper end.

        Waits for the first byte alone.

        Raises:
            ConnectionBroken: the body ended before its end.
            TransferFailed, LockLost: a limit of the watch.
        """
        if self._broken is not None:
            raise self._broken
        if self.framing().chunked and not self._left_bytes and not self._ended:
            self._next_chunk()
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
                where = "within a chunk" if self._in_chunks else "before the announced end"
                raise ConnectionBroken(f"the connection was closed {where}")
            self._left_bytes -= read
        return read

    def _next_chunk(self) -> None:
        """Go to the next chunk (RFC 9112, section 7.1).

        Raises:
            ConnectionBroken: the body ended before its last chunk, or what stands between two is none of its ends.
        """
        if self._in_chunks and self._line() != b"\r\n":
            raise ConnectionBroken("a chunk does not end where its size says")
        self._in_chunks = True
        size = _CHUNK_SIZE.fullmatch(self._line())
        if size is None:
            raise ConnectionBroken("the chunks ended without the last one, or a chunk's size is none")
        self._left_bytes = int(size[1], 16)
        if not self._left_bytes:
            # Some servers close the connection in the place of the last empty line.
            while self._line() not in (b"\r\n", b"\n", b""):
                pass
            self._ended = True

    @property
    def goes_on(self) -> bool:
        """Whether announced bytes are still to come; False where none were announced."""
        return bool(self._left_bytes) and not self._in_chunks

    def has_surplus(self) -> bool:
        """Whether more came than the announced length, waiting a moment for it; to be asked after the end."""
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

    def _line(self) -> bytes:
        """Return the next line with its end; at the end of the stream what there is of it."""
        while (end := self._ahead.find(b"\n", self._at) + 1) == 0:
            received = self._receive()
            self._ahead, self._at = self._ahead[self._at :] + received, 0
            if not received or len(self._ahead) > LONGEST_LINE + _BLOCK_BYTES:
                end = len(self._ahead)
                break
        if end - self._at > LONGEST_LINE:
            raise HeadTooLarge(f"a line of more than {LONGEST_LINE} bytes")
        line, self._at = self._ahead[self._at : end], end
        return line

    def _receive(self) -> bytes:
        """Return what is there, waiting for the first byte; nothing at the end of the stream."""
        if self._broken is not None:
            raise self._broken
        if self._framing_bytes > FRAMING_LIMIT_BYTES:
            raise HeadTooLarge("headers without end")
        while True:
            try:
                received = self._socket.recv(_BLOCK_BYTES)
            except OSError as error:
                self._wait(self._wanted(error))
                continue
            self._framing_bytes += len(received)
            self._watch.heard(len(received))
            return received

    def _wanted(self, error: OSError) -> int:
        """Return the events that a call on the socket must wait for.

        Raises:
            ConnectionBroken: it failed for good, and so does every later one.
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
        # What is more than a step is this machine's sleep, or its other work, and not the source's silence.
        self._watch.waited(min(time.monotonic() - started, STEP_S))

    def _poll(self, events: int, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(self._socket, events)
        poller.poll(timeout_s * 1000)
