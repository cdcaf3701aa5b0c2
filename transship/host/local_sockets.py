"""Unix sockets between the processes of one machine: mode 0600, and names of any length.

Every process that can open the socket is trusted: it is in the home directory, which other accounts cannot access.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODE = 0o600


def bind_socket(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that is bound to a path, atomically replacing an older one.

    Args:
        path: where; its directory exists.
        kind: stream or datagram.

    Raises:
        OSError: the directory cannot be written; nothing is left behind.
    """
    bound = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Set before binding, so the file never has another mode, whatever the umask.
        os.fchmod(bound.fileno(), MODE)
        part.unlink(missing_ok=True)
        with _short(part) as name:
            bound.bind(name)
        part.rename(path)
    except OSError:
        bound.close()
        part.unlink(missing_ok=True)
        raise
    return bound


def connect_socket(path: Path, kind: socket.SocketKind, timeout_s: float) -> socket.socket:
    """Return a socket that is connected to the one at a path.

    Args:
        timeout_s: limit for connecting and for each later operation; 0: never wait.

    Raises:
        OSError: no process listens there, or it did not answer in time.
    """
    connected = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    try:
        connected.settimeout(timeout_s)
        with _short(path) as name:
            connected.connect(name)
    except OSError:
        connected.close()
        raise
    return connected


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name for a path that is shorter than the limit of 108 bytes for a socket's address (unix(7))."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
