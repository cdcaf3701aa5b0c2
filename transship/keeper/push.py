"""The keeper's side of the push: ask the runner of this machine for a slot before a run is made.

Whatever goes wrong here costs an import some tenths of a second and nothing else: the run is scheduled then, or, if it
was born Pending already, given back to the queue by the runner, which looks for such runs.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from transship.domain.errors import PushMessageInvalid
from transship.domain.push import LONGEST_LINE_BYTES, Granted, Message, Refused, Reserve, Run, Taken, decode, encode
from transship.host.local_sockets import connect_socket

PATIENCE_S: Final = 0.5
"""A runner that does not answer within this time is busy enough for the run to be scheduled."""

log = structlog.get_logger("transship.keeper.push")


class HeldSlot:
    """A slot of the runner, kept until the block ends. Use as a context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def push(self, flow_run: Mapping[str, Any]) -> bool:
        """Hand a run over; return whether the runner said that it has it."""
        return isinstance(_exchange(self._connection, Run(flow_run)), Taken)


class LocalRunner:
    """The runner of this machine, if there is one.

    Args:
        path: its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def reserve(self, queue: str) -> HeldSlot | None:
        """Ask for a slot for a run of a work queue; None when the run has to be scheduled."""
        try:
            connection = connect_socket(self._path, socket.SOCK_STREAM, PATIENCE_S)
        except OSError:
            # No runner, an older one, or none on this machine: all of them are in order.
            return None
        answer = _exchange(connection, Reserve(queue))
        if isinstance(answer, Granted):
            return HeldSlot(connection)
        connection.close()
        if isinstance(answer, Refused):
            log.debug("no slot", queue=queue, reason=answer.reason)
        return None


def _exchange(connection: socket.socket, message: Message) -> Message | None:
    """Send a message and return the answer; None when none came in time."""
    try:
        connection.sendall(encode(message))
        return decode(_line(connection))
    except (OSError, PushMessageInvalid) as fault:
        log.warning("the runner does not answer", reason=str(fault) or type(fault).__name__)
        return None


def _line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= LONGEST_LINE_BYTES:
        received = connection.recv(4096)
        if not received:
            break
        line += received
    return bytes(line)
