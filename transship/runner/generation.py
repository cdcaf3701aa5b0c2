"""The dispatcher's view of a template and the executors forked from it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, Self

import structlog

from transship.domain.errors import WarmEngineUnavailable
from transship.host.forked import ForkedProcess
from transship.host.processes import describe_exit, signal_group, start_time
from transship.runner.messages import (
    LINE_BYTES,
    MESSAGE_BYTES,
    Done,
    Ended,
    Fork,
    Forked,
    ForkFailed,
    Job,
    Ready,
    decode_template_message,
)
from transship.runner.template import END_GRACE_S

ORPHAN_GRACE_S: Final = 15.0
"""Time for executors to interrupt their imports after their template was killed."""

TEMPLATE_END_S: Final = END_GRACE_S + 5.0
"""Longest wait for a template to end before it is killed."""

log = structlog.get_logger("transship.runner")


class Condition(StrEnum):
    """What an executor is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"
    """It is not given another run."""


@dataclass(slots=True, eq=False)
class Executor:
    """One executor.

    Attributes:
        number: counts executors of this dispatcher.
        pid: 0 until the template has forked it.
        runs: number of runs it has had.
        run_id: its current flow run; empty if idle.
        dry: whether that run is a probe.
        signalled: whether it was told to stop its run, after which it gets no other run.
        status: its exit status, as of `subprocess`; None while it runs.
    """

    number: int
    channel: socket.socket
    generation: Generation
    pid: int = 0
    condition: Condition = Condition.STARTING
    runs: int = 0
    first_rss_bytes: int = 0
    run_id: str = ""
    dry: bool = False
    signalled: bool = False
    since: float = 0.0
    status: int | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_ready(self) -> Done | None:
        """Open its channel, and wait until it is ready for its first run; None if it closed the channel."""
        self.channel.setblocking(False)
        self.reader, self.writer = await asyncio.open_connection(sock=self.channel, limit=LINE_BYTES)
        return await _answer(self.reader)

    async def ask(self, job: Job) -> Done | None:
        """Send a job and return the answer; None if it died."""
        if self.reader is None or self.writer is None:
            return None
        try:
            self.writer.write(job.encode() + b"\n")
            await self.writer.drain()
        except ConnectionError:
            return None
        return await _answer(self.reader)

    def close(self) -> None:
        """Close its channel, which makes it end."""
        if self.writer is not None:
            self.writer.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.pid and self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and all its children; its run is lost."""
        if self.pid:
            signal_group(self.pid, signal.SIGKILL)

    async def end_as_orphan(self) -> int:
        """Wait for its end after its template has died and this process has adopted it; return its exit status."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ORPHAN_GRACE_S
        status = -signal.SIGKILL
        while self.pid and start_time(self.pid) is not None:
            if loop.time() > end:
                self.kill()
            await asyncio.sleep(0.05)
        if self.pid:
            with suppress(ChildProcessError):
                _, raw = os.waitpid(self.pid, os.WNOHANG)
                status = os.waitstatus_to_exitcode(raw)
            self.kill()
        return status


async def _answer(reader: asyncio.StreamReader) -> Done | None:
    try:
        line = await reader.readline()
    except (ConnectionError, ValueError):
        return None
    return Done.decode(line) if line.endswith(b"\n") else None


class Owner(Protocol):
    """Keeps generations, and is notified about them."""

    def changed(self) -> None:
        """An executor's attributes have changed."""

    def executor_ended(self, executor: Executor, status: int) -> None:
        """An executor has ended, or could not be created.

        Args:
            status: as of `subprocess`.
        """

    def template_ended(self, generation: Generation, expected: bool) -> None:
        """A template has ended or was killed; the kernel sent SIGTERM to its executors.

        Args:
            expected: whether it was retired before.
        """


@dataclass(slots=True, eq=False)
class Generation:
    """A template and its executors.

    Attributes:
        ready: the template's message after its imports; fails if it ended before.
        retired: it no longer forks; its executors end after their run.
        gone: the template has ended, and so is retired.
    """

    owner: Owner
    process: subprocess.Popen[bytes] | ForkedProcess
    control: socket.socket
    ready: asyncio.Future[Ready]
    retired: bool = False
    gone: bool = False
    executors: set[Executor] = field(default_factory=set)

    @classmethod
    def start(cls, owner: Owner, module: str, entrypoints: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start a template in a fresh interpreter.

        Args:
            owner: notified about the template and its executors.
            module: runs as the template.
            entrypoints: module paths of the flows that it imports.
            environment: of the template and all executors.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # -P: a directory in the working directory must not shadow one of our packages.
            command = (sys.executable, "-P", "-m", module, str(theirs.fileno()), *entrypoints)
            try:
                process = subprocess.Popen(
                    command,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        return cls.of(owner, process, ours)

    @classmethod
    def of(cls, owner: Owner, process: subprocess.Popen[bytes] | ForkedProcess, control: socket.socket) -> Self:
        """Return the generation of a running template.

        Args:
            owner: notified about the template and its executors.
            process: the template.
            control: datagram socket to it.
        """
        control.setblocking(False)
        loop = asyncio.get_running_loop()
        generation = cls(owner, process, control, loop.create_future())
        loop.add_reader(control, generation._hear)
        return generation

    @property
    def can_fork(self) -> bool:
        """Whether it can fork executors."""
        return not self.retired and self.ready.done()

    def fork(self, number: int) -> Executor | None:
        """Ask the template for an executor; None if the template is gone, which its owner will be told.

        Raises:
            OSError: no socket could be created for it.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.control, [Fork(number).encode()], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        executor = Executor(number, ours, self, since=asyncio.get_running_loop().time())
        self.executors.add(executor)
        return executor

    def disconnect(self) -> None:
        """Make the template end; it ends its remaining executors first."""
        self.retired = True
        if not self.gone:
            asyncio.get_running_loop().remove_reader(self.control)
        self.control.close()

    async def reap(self) -> None:
        """Wait for the end of a template that was disconnected."""
        try:
            await asyncio.to_thread(self.process.wait, TEMPLATE_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    def _hear(self) -> None:
        """Read a message from the template, or notice that it is gone."""
        try:
            datagram = self.control.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            datagram = b""
        if not datagram:
            self._on_gone()
            return
        match decode_template_message(datagram):
            case Ready() as ready:
                self.ready.set_result(ready)
            case Forked(number, pid):
                for executor in self._numbered(number):
                    executor.pid = pid
                self.owner.changed()
            case ForkFailed(number, reason):
                # The executor has no process; the others are not affected.
                log.warning("template cannot fork", reason=reason)
                for executor in self._numbered(number):
                    self.owner.executor_ended(executor, 0)
            case Ended(pid, status):
                for executor in [one for one in self.executors if one.pid == pid]:
                    self.owner.executor_ended(executor, status)

    def _numbered(self, number: int) -> list[Executor]:
        return [one for one in self.executors if one.number == number]

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self.control)
        expected = self.retired
        self.gone = self.retired = True
        if self.ready.done():
            self.owner.template_ended(self, expected)
            return
        status = describe_exit(self.process.wait())
        self.ready.set_exception(WarmEngineUnavailable(f"the template ended while it was starting ({status})"))
