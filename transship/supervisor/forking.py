"""The supervisor's side of the fork server: components that are forked instead of started."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from transship.host.forked import ForkedProcess
from transship.supervisor.child import Child
from transship.supervisor.component import Component
from transship.supervisor.fork_server import REGISTERED, Request


class ForkServer:
    """A process that has imported what components need, and forks them.

    Args:
        component: how it is started.
        directory: its working directory.
        on_line: takes each line of its output.

    Raises:
        OSError: it cannot be run.

    Attributes:
        pid: of the process.
    """

    def __init__(self, component: Component, directory: Path, on_line: Callable[[str], None]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            try:
                self._child = Child.start(component, directory, (theirs,))
            except OSError:
                self._control.close()
                raise
        self.pid = self._child.pid
        self._end = asyncio.create_task(self._child.follow(on_line))

    def prepare(self, imports: Sequence[str]) -> None:
        """Have modules imported after what was asked for before; nothing happens where it is gone."""
        try:
            self._control.send(Request(tuple(imports)).encode())
        except OSError:
            # Whoever wants a component of it finds out.
            return

    async def fork(self, component: Component, directory: Path, sockets: Sequence[socket.socket]) -> Child | None:
        """Have a component forked; it begins when this returns, as a child of this process.

        Args:
            component: runs a module (``python -m``), and names its imports.
            directory: its working directory.
            sockets: listening ones that it inherits.

        Returns:
            None when there is no fork of it: it has to be started.
        """
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        request = Request(
            component.imports,
            component.module,
            component.arguments,
            component.environment,
            str(directory),
            component.name,
            os.getpid(),
        )
        ours.setblocking(False)
        with ours:
            try:
                with theirs:
                    descriptors = [theirs.fileno(), writing, *(each.fileno() for each in sockets)]
                    socket.send_fds(self._control, [request.encode()], descriptors)
                pid = await asyncio.get_running_loop().sock_recv(ours, 32)
                if pid:
                    ours.send(REGISTERED)
            except OSError:
                pid = b""
            except asyncio.CancelledError:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        if not pid:
            os.close(reading)
            return None
        return Child(ForkedProcess(int(pid)), os.fdopen(reading, "rb", buffering=0))

    def kill(self) -> None:
        """Kill it; who waits for a component of it is told that there is none."""
        self._child.kill()

    async def close(self) -> None:
        """End it; what it forked goes on."""
        self._control.close()
        self._child.terminate()
        await self._end
