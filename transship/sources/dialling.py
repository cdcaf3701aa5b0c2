"""Dial judged addresses, and the TLS settings of downloads."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from transship.domain.stop import StopToken

STEP_S: Final = 0.1
"""Longest single wait."""

HEAD_START_S: Final = 0.25
"""Head start of an address before the next one is tried in parallel (RFC 8305, section 5)."""


class ConnectionBroken(Exception):
    """The connection could not be made, or ended too early.

    Args:
        reason: for the operator's log only; it may reveal whether a port is open.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def client_tls(*further_authorities: Path) -> ssl.SSLContext:
    """Return the TLS settings of downloads: TLS 1.2 or newer, the system's authorities, host names checked.

    Args:
        further_authorities: PEM files of authorities that are trusted too.

    Raises:
        OSError: a file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    for file in further_authorities:
        context.load_verify_locations(cafile=file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # By default Python hides an end of stream that TLS did not announce, so a truncated body would look complete.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def dial(addresses: Sequence[str], port: int, timeout_s: float, stop: StopToken) -> socket.socket:
    """Return a connection to the first address that answers; families alternate, and slow addresses are raced.

    Args:
        addresses: the judged addresses; nothing else is dialled.
        port: TCP port.
        timeout_s: limit for all addresses together.
        stop: checked ten times a second.

    Raises:
        ConnectionBroken: no address answered in time.
        LockLost, ImportStopped: asked to stop; every socket was closed.
    """
    race = _Race(port)
    try:
        return race.run(_families_in_turn(addresses), time.monotonic() + timeout_s, stop)
    finally:
        race.close()


class _Race:
    """Parallel connection attempts; the first to connect wins."""

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
                raise ConnectionBroken(f"no connection in time ({'; '.join(self._failures) or 'no answer'})")
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
        raise ConnectionBroken("; ".join(self._failures))

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
        except OSError as error:  # this machine does not support the address family
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
    """Order addresses so that families alternate, starting with the first address's (RFC 8305, section 4)."""
    queues: dict[int, deque[str]] = {}
    for address in addresses:
        queues.setdefault(ip_address(address).version, deque()).append(address)
    ordered: list[str] = []
    while any(queues.values()):
        ordered.extend(queue.popleft() for queue in queues.values() if queue)
    return ordered
