"""The runner's side of the push: give out slots, and take runs that were born for them.

An optimisation alone. A dispatcher grants a slot only where the run would have been given to it at once: an executor
is free, no scheduled run waits for one, and neither pool nor queue has a limit or is paused.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from transship.domain.errors import PushMessageInvalid
from transship.domain.push import LONGEST_LINE_BYTES, Granted, Message, Refused, Reserve, Run, Taken, decode, encode
from transship.host.local_sockets import bind_socket

KEPT_S: Final = 30.0
"""How long a slot is kept for a keeper that says nothing: longer than it waits for Prefect's answer (17 s)."""

log = structlog.get_logger("transship.runner.push")


class Slot(Protocol):
    """An executor that is kept free. Exactly one of the two is called, once."""

    def run(self, flow_run: Mapping[str, Any]) -> bool:
        """Begin a run here; returns at once and raises nothing, whatever becomes of the run.

        Args:
            flow_run: in state Pending, as Prefect answered its creation.

        Returns:
            Whether it is begun; if not, the slot has been given back.
        """

    def free(self) -> None:
        """Give the slot back."""


class Dispatcher(Protocol):
    """Whoever hands runs to executors."""

    async def try_reserve(self, queue: str) -> Slot | Refused:
        """Keep an executor free for a run of a work queue, or say why not; never waits for one."""


@asynccontextmanager
async def push_server(path: Path, dispatcher: Dispatcher) -> AsyncIterator[None]:
    """Answer keepers at a path for as long as the block lasts.

    Raises:
        OSError: the socket cannot be made there.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve_one(dispatcher, reader, writer)
        finally:
            writer.close()

    bound = bind_socket(path, socket.SOCK_STREAM)
    server = await asyncio.start_unix_server(serve, sock=bound, limit=LONGEST_LINE_BYTES)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def _serve_one(dispatcher: Dispatcher, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = await _receive(reader)
    if not isinstance(asked, Reserve):
        return
    slot = await dispatcher.try_reserve(asked.queue)
    if isinstance(slot, Refused):
        await _send(writer, slot)
        return
    taken = False
    try:
        await _send(writer, Granted())
        message = await _receive(reader)
        if isinstance(message, Run):
            taken = True
            if slot.run(message.flow_run):
                await _send(writer, Taken())
    finally:
        if not taken:
            slot.free()


async def _receive(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message; None when there is none, or it is no message of ours."""
    try:
        async with asyncio.timeout(KEPT_S):
            line = await reader.readuntil()
        return decode(line)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (TimeoutError, asyncio.LimitOverrunError, PushMessageInvalid) as fault:
        log.warning("connection of a keeper closed", reason=str(fault) or type(fault).__name__)
        return None


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    try:
        writer.write(encode(message))
        await writer.drain()
    except ConnectionError as gone:
        log.info("keeper disconnected", reason=str(gone))
