"""The keeper's doorbell: a datagram that says "there is something in the outbox".

It carries nothing, may be lost, and is only there so that nobody waits for the keeper's next look.
"""

from __future__ import annotations

import select
import socket
from pathlib import Path
from typing import Final

from transship.host.local_sockets import bind_socket, connect_socket

DOORBELL_SOCKET: Final = "keeper.sock"
"""Name of the socket in the home directory's ``run``."""


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

    def wait(self, timeout_s: float) -> bool:
        """Wait until somebody rings; False when nobody did in time. Many rings since the last look are one."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return False
        try:
            while True:
                self._socket.recv(1)
        except BlockingIOError:
            return True

    def close(self) -> None:
        """Stop listening; the name stays until the next keeper takes it."""
        self._socket.close()


def ring(path: Path) -> bool:
    """Ring the doorbell at a path; return whether somebody may hear it. Never waits, never raises."""
    try:
        with connect_socket(path, socket.SOCK_DGRAM, timeout_s=0) as bell:
            bell.send(b"!")
    except BlockingIOError:
        # It rings already.
        return True
    except OSError:
        return False
    return True
