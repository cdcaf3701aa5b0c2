"""The keeper's doorbell: a datagram that says why it is to look.

It may be lost, and is only there so that nobody waits for the keeper's next look.
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
        """Return the descriptor that becomes readable when somebody rings."""
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> bytes:
        """Wait until somebody rings, and return what was rung since the last look; empty when nobody did in time."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return b""
        rung = b""
        try:
            while True:
                rung += self._socket.recv(LONGEST_RING_BYTES)
        except BlockingIOError:
            return rung

    def close(self) -> None:
        """Stop listening; the name stays until the next keeper takes it."""
        self._socket.close()


def ring(path: Path, why: bytes = b"!") -> bool:
    """Ring the doorbell at a path; return whether somebody may hear it. Never waits, never raises.

    Args:
        why: at most `LONGEST_RING_BYTES`.
    """
    try:
        with connect_socket(path, socket.SOCK_DGRAM, timeout_s=0) as bell:
            bell.send(why)
    except BlockingIOError:
        # It rings already.
        return True
    except OSError:
        return False
    return True
