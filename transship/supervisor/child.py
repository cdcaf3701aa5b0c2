"""One child process: its session, its output, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final, Self

from transship.host.forked import ForkedProcess
from transship.host.processes import signal_group
from transship.supervisor.component import Component

LONGEST_LINE_BYTES: Final = 64 * 1024
"""Longer lines are split here, so a child cannot fill the supervisor's memory."""

DRAIN_S: Final = 1.0
"""How long output is read after the child has ended; a grandchild may keep the pipe open for longer."""


class Child:
    """A running component.

    It has its own session, so a terminal's Ctrl-C reaches only the supervisor, and a signal to its
    group reaches its children. The kernel sends it SIGTERM when the supervisor dies.

    Attributes:
        pid: process id, also the id of its group and session.
    """

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, output: IO[bytes]) -> None:
        """Wrap a running process.

        Args:
            process: leader of its session.
            output: the read end of its output.
        """
        self._process, self._output = process, output
        self.pid = process.pid

    @classmethod
    def start(cls, component: Component, directory: Path, sockets: Sequence[socket.socket] = ()) -> Self:
        """Start a component; must be called in the main thread, whose end triggers the death signal.

        Args:
            component: what to run.
            directory: its working directory.
            sockets: listening ones that it inherits.

        Raises:
            OSError: the command cannot be run.
        """
        inherited = tuple(each.fileno() for each in sockets)
        # The supervisor handles SIGINT and SIGTERM, so exec resets both to their defaults in the child,
        # even if the shell that started the supervisor ignored them.
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", "--", *component.argv, *(f"--socket={one}" for one in inherited)),
            env=dict(component.environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe; tells the type checker
        return cls(process, process.stdout)

    async def follow(self, on_line: Callable[[str], None]) -> int:
        """Read the output until the process ends.

        Args:
            on_line: called with each line, without the end of line.

        Returns:
            The exit status; negative: the signal that killed it.
        """
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), self._output)
        reader = asyncio.create_task(_read_lines(lines, on_line))
        ended = asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
            await asyncio.wait([reader], timeout=DRAIN_S)
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            reader.cancel()
            pipe.close()
        return self._process.wait()

    def terminate(self) -> None:
        """Ask the process to end; it ends its children itself."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Send SIGHUP, whose meaning depends on the component's `Renewal`."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill the process and its group; processes that left the group are killed as orphans."""
        signal_group(self.pid, signal.SIGKILL)


async def _read_lines(lines: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    while True:
        try:
            line = await lines.readuntil()
        except asyncio.IncompleteReadError as end:
            line = end.partial
        except asyncio.LimitOverrunError as overrun:
            line = await lines.readexactly(overrun.consumed)
        if not line:
            return
        on_line(line.decode("utf-8", errors="replace"))
