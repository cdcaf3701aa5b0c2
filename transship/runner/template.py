"""The template: a single-threaded process that has imported everything, and forks executors from itself.

The dispatcher forks the first template from itself, before it opens a connection. Later ones are fresh interpreters
with the current code: ``python -m transship.runner.template FD``, where FD is an inherited socket to the dispatcher. A
template ends when the dispatcher closes the socket. It never opens a connection, so executors inherit none.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from transship.host.forked import ForkedProcess
from transship.host.processes import end_with_parent, signal_group, threads
from transship.runner import pins
from transship.runner.messages import (
    MESSAGE_BYTES,
    Ended,
    Fork,
    Forked,
    ForkFailed,
    Ready,
    TemplateMessage,
    encode_template_message,
)

END_GRACE_S: Final = 15.0
"""Time for executors to interrupt their imports after the dispatcher is gone, before they are killed."""

HEAVY: Final = ("transship.runner.executor", "psycopg", "isal.igzip", "oslo_utils.imageutils.format_inspector")
"""Modules that imports load lazily; they are loaded once here."""


def main(arguments: Sequence[str]) -> int:
    """Import everything, then fork on request until the dispatcher closes the socket.

    Args:
        arguments: number of the socket, then the entrypoints of the flows.
    """
    began = time.monotonic()
    _own_life()
    control = socket.socket(fileno=int(arguments[0]))
    return _serve_dispatcher(control, load(arguments[1:]), time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class ForkedTemplate:
    """A template forked from this process.

    Attributes:
        process: the template.
        control: datagram socket to it.
    """

    process: ForkedProcess
    control: socket.socket


def fork_template(entrypoints: Sequence[str]) -> ForkedTemplate | None:
    """Import everything into this process, which has one thread and no connections, and fork a template from it.

    Args:
        entrypoints: module paths of the flows.

    Returns:
        None when this process cannot be forked; the fresh interpreter used instead reports why.
    """
    began = time.monotonic()
    if load(entrypoints):
        return None
    seconds = time.monotonic() - began
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        return None
    if pid == 0:
        status = 1
        try:
            ours.close()
            os.setsid()
            _own_life()
            status = _serve_dispatcher(theirs, [], seconds)
        finally:
            # Whatever happens, the dispatcher must not run twice.
            os._exit(status)
    theirs.close()
    return ForkedTemplate(ForkedProcess(pid), ours)


def load(entrypoints: Sequence[str]) -> list[str]:
    """Import everything that runs need; return why executors cannot be forked from this process, if so."""
    problems = []
    for name in (*HEAVY, *(entrypoint.rpartition(".")[0] for entrypoint in entrypoints)):
        try:
            importlib.import_module(name)
        except ImportError as error:
            problems.append(f"{name} cannot be imported: {error}")
    problems += pins.problems(pins.EXECUTOR_PINS) + threads()
    if not problems:
        from transship.runner.executor import quiet_settings  # noqa: PLC0415 - imported above, if it can be

        quiet_settings()
    gc.collect()
    # Exclude existing objects from garbage collection, so a collection in a child does not copy their pages.
    gc.freeze()
    return problems


def _own_life() -> None:
    end_with_parent()
    # The dispatcher ends the template by closing the socket; it also handles Ctrl-C of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _serve_dispatcher(control: socket.socket, problems: list[str], seconds: float) -> int:
    control.send(encode_template_message(Ready(os.getpid(), round(seconds, 2), problems)))
    Template(control).run()
    return 0


class Template:
    """Forks executors and reaps them.

    Args:
        control: datagram socket to the dispatcher.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._executors: set[int] = set()
        self._wake, self._woken = socket.socketpair()
        self._stopping = False

    def run(self) -> None:
        """Serve the dispatcher; return when it is gone and all executors have ended."""
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, _do_nothing)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._on_signal()
                    else:
                        self._on_request()
            selector.unregister(self._control)
            self._end_all(selector)

    def _on_request(self) -> None:
        try:
            raw, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        except ConnectionResetError:
            # The dispatcher ended before it had read all messages.
            raw, descriptors = b"", []
        if not raw:
            self._stopping = True
            return
        request = Fork.decode(raw)
        with socket.socket(fileno=descriptors[0]) as channel:
            try:
                pid = self._fork()
            except OSError as error:
                # Ending would interrupt every run of this template.
                self._tell(ForkFailed(request.number, error.strerror or str(error)))
                return
            if pid == 0:
                self._become_executor(channel)
        self._executors.add(pid)
        self._tell(Forked(request.number, pid))

    def _fork(self) -> int:
        """Fork this process; as `os.fork`."""
        return os.fork()

    def _serve(self, channel: socket.socket) -> int:
        """Serve as an executor until the channel is closed; return the exit status."""
        # Already imported in the parent, so this costs nothing.
        from transship.runner.executor import serve  # noqa: PLC0415

        return serve(channel)

    def _become_executor(self, channel: socket.socket) -> None:
        """Turn this copy of the template into an executor; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for inherited in (self._control, self._wake, self._woken):
                inherited.close()
            status = self._serve(channel)
        finally:
            # Whatever happens, the template's own loop must not run twice.
            os._exit(status)

    def _on_signal(self) -> None:
        numbers = self._woken.recv(4096)
        self._reap()
        if signal.SIGTERM in numbers:
            self._stopping = True

    def _reap(self) -> None:
        for pid in list(self._executors):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                continue
            self._executors.discard(pid)
            # A qemu-img of a dead executor must not keep writing.
            signal_group(pid, signal.SIGKILL)
            self._tell(Ended(pid, os.waitstatus_to_exitcode(status)))

    def _tell(self, message: TemplateMessage) -> None:
        # The dispatcher may be gone; the loop notices when the socket closes.
        with suppress(OSError):
            self._control.send(encode_template_message(message))

    def _end_all(self, selector: selectors.BaseSelector) -> None:
        """Tell the executors to interrupt their imports, wait, and kill the rest."""
        for pid in self._executors:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + END_GRACE_S
        while self._executors and (left_s := end - time.monotonic()) > 0:
            if selector.select(left_s):
                self._on_signal()
        for pid in self._executors:
            signal_group(pid, signal.SIGKILL)


def _do_nothing(_number: int, _frame: object) -> None:
    """Ignore a signal; its number arrives through the wake-up descriptor."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
