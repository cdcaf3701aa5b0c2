"""The keeper's doorbell: a datagram that wakes the keeper and says why.

A datagram may be lost; the keeper also polls. The doorbell only saves waiting for the next poll.
"""

from __future__ import annotations

import select
import socket
from pathlib import Path
from typing import Final

from transship.host.local_sockets import bind_socket, connect_socket

DOORBELL_SOCKET: Final = "keeper.sock"
"""Name of the socket in the home directory's ``run``."""

LONGEST_RING_BYTES: Final = 16


class Doorbell:
    """The keeper's side.

    Args:
        path: where to listen; its directory exists.

    Raises:
        OSError: the socket cannot be made there.
    """

    def __init__(self, path: Path) -> None:
        self._socket = bind_socket(path, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the doorbell rings."""
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> bytes:
        """Wait for a ring, and return all rings since the last call; empty after a timeout."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return b""
        rung = b""
        try:
            while True:
                rung += self._socket.recv(LONGEST_RING_BYTES)
        except BlockingIOError:
            return rung

    def close(self) -> None:
        """Stop listening; the socket's file stays until the next keeper replaces it."""
        self._socket.close()


def ring(path: Path, why: bytes = b"!") -> bool:
    """Ring the doorbell at a path; return whether a keeper may receive it. Never waits, never raises.

    Args:
        why: at most `LONGEST_RING_BYTES`.
    """
    try:
        with connect_socket(path, socket.SOCK_DGRAM, timeout_s=0) as bell:
            bell.send(why)
    except BlockingIOError:
        # The doorbell is full of unread rings.
        return True
    except OSError:
        return False
    return True
