"""A component's place in the supervisor: its definition and its current state."""

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
    """A component and its current state.

    Attributes:
        forked_by: the fork server that is asked to fork it now; 0: none.
        starts: how often it was started.
        lines: how many lines it has written.
        short_lives: number of consecutive short lives.
        stopping: it is not restarted.
        up: it was up once.
        died: it has ended unexpectedly once.
        said_ready: it has printed its ready line since it was started, or since it was last told to reload.
        complaint: the problem in the ready line.
        keeper: keeps it running.
        sockets: on which it listens.
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
        """Return its current vitals."""
        # While it waits to be forked, the fork server's imports count as its activity.
        pids = [self.child.pid, *descendants(self.child.pid)] if self.child else [self.forked_by]
        return Vitals(self.starts, self.lines, sum(map(cpu_time_s, pids)))

    def on_line(self, line: str) -> None:
        """Count a line, and check whether it is the component's ready line."""
        self.lines += 1
        text = self.component.ready_text
        if text and text in line:
            self.complaint = line.partition(text)[2].strip(": \n")
            self.said_ready.set()
