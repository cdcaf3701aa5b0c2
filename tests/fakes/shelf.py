"""A runner that executes nothing: it gives out slots over its socket, and records the pushed runs."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transship.domain.push import Refused
from transship.runner.push import push_server


class Shelf:
    """Slots served by a separate thread. Use as a context manager.

    Attributes:
        left: slots that nobody has.
        asked: queues that slots were wanted for.
        runs: flow runs that were handed over, oldest first.
        changed: gets ``free`` or ``run`` whenever a slot changes hands.
    """

    def __init__(self, path: Path, slots: int = 1) -> None:
        self.left = slots
        self.asked: list[str] = []
        self.runs: list[Mapping[str, Any]] = []
        self.changed: queue.Queue[str] = queue.Queue()
        self._path = path
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def try_reserve(self, queue_name: str) -> _KeptSlot | Refused:
        self.asked.append(queue_name)
        if not self.left:
            return Refused("all slots are taken")
        self.left -= 1
        return _KeptSlot(self)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with push_server(self._path, self):
            self._ready.set()
            await self._stop.wait()


class _KeptSlot:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def run(self, flow_run: Mapping[str, Any]) -> bool:
        self._shelf.runs.append(flow_run)
        self._shelf.changed.put("run")
        return True

    def free(self) -> None:
        self._shelf.left += 1
        self._shelf.changed.put("free")
