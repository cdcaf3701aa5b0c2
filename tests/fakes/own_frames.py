"""How deep our own code is when it reads the network: frames between a function and a call of a socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
ROOMS = tuple(str(ROOT / room) + "/" for room in ("tasks", "flows", "transship", "config"))


@contextmanager
def socket_reads() -> Iterator[list[tuple[str, ...]]]:
    """Yield a list of the own frames of each read into a buffer: ``room/file.py:function``, outermost first."""
    found: list[tuple[str, ...]] = []
    real = socket.socket.recv_into

    def noting(connection: socket.socket, *told: Any) -> int:
        found.append(_own_frames())
        return real(connection, *told)

    with patch.object(socket.socket, "recv_into", noting):
        yield found


def below(stacks: list[tuple[str, ...]], function: str) -> list[tuple[str, ...]]:
    """Return the part of each stack that begins with a function, of those that it is in."""
    return [stack[stack.index(function) :] for stack in stacks if function in stack]


def _own_frames() -> tuple[str, ...]:
    frame, names = sys._getframe(2), []
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(ROOMS):
            names.append(f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]  # typeshed: the outermost frame has none
    return tuple(reversed(names))
