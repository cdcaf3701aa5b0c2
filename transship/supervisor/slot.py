"""The place of a component in the supervisor: what was asked for, and what became of it so far."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime

from transship.host.processes import cpu_time_s, descendants
from transship.supervisor.child import Child
from transship.supervisor.component import Component, Condition
from transship.supervisor.liveness import Vitals


@dataclass(slots=True, eq=False)
class Slot:
    """A component and what became of it so far.

    Attributes:
        forked_by: the fork server that is asked for it now; 0: none.
        starts: how often it was started.
        lines: how many lines it has written.
        short_lives: ends in a row after a short life.
        stopping: it is not started again.
        up: it was up once.
        died: it has ended once although nobody had asked for that.
        said_ready: its line that says so has come since it was started, or was last told to read its settings again.
        complaint: what stood in that line beside.
        keeper: keeps it alive.
        sockets: that it listens on.
    """

    component: Component
    condition: Condition = Condition.WAITING
    child: Child | None = None
    forked_by: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    starts: int = 0
    lines: int = 0
    short_lives: int = 0
    last_exit: str = ""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    up: asyncio.Event = field(default_factory=asyncio.Event)
    died: asyncio.Event = field(default_factory=asyncio.Event)
    said_ready: asyncio.Event = field(default_factory=asyncio.Event)
    complaint: str = ""
    keeper: asyncio.Task[None] | None = None
    sockets: tuple[socket.socket, ...] = ()

    def vitals(self) -> Vitals:
        """Return what is seen of it now."""
        # While it is to be forked, what is imported for it is its own work.
        pids = [self.child.pid, *descendants(self.child.pid)] if self.child else [self.forked_by]
        return Vitals(self.starts, self.lines, sum(map(cpu_time_s, pids)))

    def on_line(self, line: str) -> None:
        """Count a line, and look whether it says that the component is ready."""
        self.lines += 1
        text = self.component.ready_text
        if text and text in line:
            self.complaint = line.partition(text)[2].strip(": \n")
            self.said_ready.set()
