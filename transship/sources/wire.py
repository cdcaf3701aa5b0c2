"""A connection to a judged address, on which no wait is longer than a tenth of a second.

http.client parses what comes over it, but all waiting happens here: limits hold in the middle of
a header line as they do in the body, and a cancel is seen while a server is silent.
"""

from __future__ import annotations

import errno
import io
import os
import select
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from transship.domain.stop import StopToken
from transship.sources.watch import Waiting

STEP_S: Final = 0.1
"""Longest single wait."""

HEAD_START_S: Final = 0.25
"""Time that an address has to itself before the next one is tried beside it (RFC 8305, section 5)."""

FRAMING_LIMIT_BYTES: Final = 1024 * 1024
"""Most bytes in a row that are headers, interim answers or trailers and not image data."""

_BUFFER_BYTES: Final = 64 * 1024
_SURPLUS_WAIT_S: Final = 0.1


class WireBroken(Exception):
    """The connection could not be made, or ended before it should.

    Args:
        reason: for the operator's log; it may tell an open port from a closed one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CertificateRefused(Exception):
    """The server's certificate does not prove the name that was asked for.

    Args:
        reason: OpenSSL's words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FramingFlood(WireBroken):
    """The server sends headers without end."""


def client_tls(*further_authorities: Path) -> ssl.SSLContext:
    """Return the TLS settings of downloads: TLS 1.2 or newer, the system's authorities, names checked.

    Args:
        further_authorities: PEM files of authorities that are trusted besides.

    Raises:
        OSError: a file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    for file in further_authorities:
        context.load_verify_locations(cafile=file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python hides an end of stream that TLS did not announce; then a cut body would look complete.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


# --- dialling ----------------------------------------------------------------------------------


def dial(addresses: Sequence[str], port: int, timeout_s: float, stop: StopToken) -> socket.socket:
    """Return a connection to the first address that answers, families in turn, slow ones raced.

    Args:
        addresses: the judged addresses; nothing else is dialled.
        port: TCP port.
        timeout_s: limit for all of them together.
        stop: checked ten times a second.

    Raises:
        WireBroken: none answered in time.
        LockLost, ImportStopped: asked to stop; every socket was closed.
    """
    race = _Race(port)
    try:
        return race.run(_families_in_turn(addresses), time.monotonic() + timeout_s, stop)
    finally:
        race.close()


class _Race:
    """Connection attempts that run beside each other; the first to connect wins."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._failures: list[str] = []

    def run(self, addresses: Sequence[str], ends_at: float, stop: StopToken) -> socket.socket:
        waiting = deque(addresses)
        next_start = time.monotonic()
        while waiting or self._running:
            stop.check()
            now = time.monotonic()
            if now >= ends_at:
                raise WireBroken(f"no connection in time ({'; '.join(self._failures) or 'no answer'})")
            if waiting and (now >= next_start or not self._running):
                winner = self._start(waiting.popleft())
                next_start = now + HEAD_START_S
            else:
                failed_before = len(self._failures)
                winner = self._wait(min(STEP_S, ends_at - now, next_start - now if waiting else STEP_S))
                if len(self._failures) > failed_before:
                    next_start = now
            if winner is not None:
                return winner
        raise WireBroken("; ".join(self._failures))

    def close(self) -> None:
        """Close every attempt but the winner."""
        for key in list(self._selector.get_map().values()):
            self._drop(key)
        self._selector.close()

    @property
    def _running(self) -> bool:
        return bool(self._selector.get_map())

    def _start(self, address: str) -> socket.socket | None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            attempt = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # this machine has no such family
            self._failures.append(f"{address}: {error.strerror}")
            return None
        attempt.setblocking(False)
        code = attempt.connect_ex((address, self._port))
        if code == 0:
            return attempt
        if code == errno.EINPROGRESS:
            self._selector.register(attempt, selectors.EVENT_WRITE, (attempt, address))
        else:
            self._failures.append(f"{address}: {os.strerror(code)}")
            attempt.close()
        return None

    def _wait(self, timeout_s: float) -> socket.socket | None:
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            attempt, address = key.data
            code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                self._selector.unregister(attempt)
                winner: socket.socket = attempt
                return winner
            self._failures.append(f"{address}: {os.strerror(code)}")
            self._drop(key)
        return None

    def _drop(self, key: selectors.SelectorKey) -> None:
        attempt, _ = key.data
        self._selector.unregister(attempt)
        attempt.close()


def _families_in_turn(addresses: Sequence[str]) -> list[str]:
    """Order addresses so that families alternate, the first one's family first (RFC 8305, section 4)."""
    queues: dict[int, deque[str]] = {}
    for address in addresses:
        queues.setdefault(ip_address(address).version, deque()).append(address)
    ordered: list[str] = []
    while any(queues.values()):
        ordered.extend(queue.popleft() for queue in queues.values() if queue)
    return ordered


# --- one connection ----------------------------------------------------------------------------


class Wire:
    """A connected socket, as http.client wants one, with limits on every wait.

    Attributes:
        reader: what the server sends, buffered.
    """

    def __init__(self, connection: socket.socket, watch: Waiting) -> None:
        self._socket = connection
        self._watch = watch
        self._broken: WireBroken | None = None
        self._framing_bytes = 0
        self._patient = True
        self._socket.setblocking(False)
        self.reader = LineReader(_Receiver(self), _BUFFER_BYTES)

    def hand_to(self, watch: Waiting) -> None:
        """Let another watch end the waits from now on."""
        self._watch = watch

    def start_tls(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        """Encrypt the connection, with ``host`` as the name that the certificate must prove.

        Raises:
            CertificateRefused: it does not.
            WireBroken: no TLS on the other side, or not in time.
        """
        ends_at = time.monotonic() + timeout_s
        try:
            secured = context.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self._socket = secured
            self._until_done(secured.do_handshake, ends_at)
            # What came before the encryption must not be read as if it had come through it.
            self.reader = LineReader(_Receiver(self), _BUFFER_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(error.verify_message) from error
        except (OSError, ValueError) as error:
            raise WireBroken(f"TLS failed: {error}") from error

    def _until_done(self, step: Callable[[], None], ends_at: float) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            else:
                return
            self._watch.check()
            if time.monotonic() >= ends_at:
                raise WireBroken("no TLS handshake in time")
            self._poll(events, STEP_S)

    def sendall(self, data: bytes) -> None:
        """Send a request.

        Raises:
            WireBroken: the connection ended.
            TransferFailed, LockLost: a limit of the watch.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except OSError as error:
                raise WireBroken(f"the request could not be sent: {error}") from error

    def receive_into(self, buffer: memoryview) -> int | None:
        """Fill ``buffer`` with what is there, waiting only for the first byte; 0 at the end of the stream.

        Raises:
            WireBroken: the connection ended other than by a proper close.
            FramingFlood: too many bytes since the last image data.
            TransferFailed, LockLost: a limit of the watch.
        """
        if self._broken is not None:
            raise self._broken
        if self._framing_bytes > FRAMING_LIMIT_BYTES:
            raise FramingFlood("headers without end")
        filled = 0
        while filled < len(buffer):
            try:
                received = self._socket.recv_into(buffer[filled:])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
                if filled:
                    break
                if not self._patient:
                    return None
                self._wait(select.POLLOUT if isinstance(wants, ssl.SSLWantWriteError) else select.POLLIN)
                continue
            except OSError as error:
                self._broken = WireBroken(f"the connection broke: {error}")
                if filled:
                    break
                raise self._broken from error
            if received == 0:
                break
            filled += received
        self._framing_bytes += filled
        self._watch.heard(filled)
        return filled

    def image_data_came(self) -> None:
        """Note that image data were read, so that the count of bytes that are none starts again."""
        self._framing_bytes = 0

    def has_surplus(self) -> bool:
        """Whether the server sent something after the end, waiting a moment for what may be on its way."""
        self._patient = False
        try:
            if self.reader.read1(1):
                return True
            self._poll(select.POLLIN, _SURPLUS_WAIT_S)
            return bool(self.reader.read1(1))
        except WireBroken:
            return False
        finally:
            self._patient = True

    def refuse_cut_line(self) -> None:
        """Make sure that the headers ended properly; http.client takes cut ones for whole.

        Raises:
            WireBroken: the line read last is not the empty one.
        """
        if self.reader.last_line not in (b"\r\n", b"\n"):
            raise WireBroken("the headers were cut off")

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the reader; http.client asks for it so."""
        return self.reader

    def hang_up(self) -> None:
        """Close the connection."""
        self.reader.close()
        self._socket.close()

    def _wait(self, events: int) -> None:
        started = time.monotonic()
        self._poll(events, STEP_S)
        # What is more than a step is this machine's sleep, or its other work, and not the source's silence.
        self._watch.waited(min(time.monotonic() - started, STEP_S))

    def _poll(self, events: int, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(self._socket, events)
        poller.poll(timeout_s * 1000)


class LineReader(io.BufferedReader):
    """A buffered reader that remembers the last line, and can leave lines out.

    Attributes:
        last_line: the line read last, with its end of line if it had one.
    """

    last_line: bytes = b""
    _left_out: Callable[[bytes], bool] | None = None

    @contextmanager
    def leaving_out(self, left_out: Callable[[bytes], bool]) -> Iterator[None]:
        """Within the block, read as if the lines of which ``left_out`` is true had not come."""
        self._left_out = left_out
        try:
            yield
        finally:
            self._left_out = None

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line that is not left out, up to ``size`` bytes of it."""
        while True:
            self.last_line = line = super().readline(size)
            if self._left_out is None or not line.endswith(b"\n") or not self._left_out(line):
                return line


class _Receiver(io.RawIOBase):
    """The wire as a raw stream."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:  # type: ignore[override]  # typeshed: any buffer
        return self._wire.receive_into(memoryview(buffer))
