"""Starting the supervisor in the foreground or in the background, and stopping the one that runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import Settings
from transship.domain.errors import StartFailed, StopFailed, TransshipError
from transship.host.processes import describe_exit
from transship.supervisor.component import Component
from transship.supervisor.guard import run_guarded
from transship.supervisor.home import (
    HomeLock,
    is_locked,
    log_dir,
    read_holder,
    signal_holder,
    status_path,
    take_stop_note,
    write_stop_note,
)
from transship.supervisor.output import SUPERVISOR, WARNING, Console, Output, Sink
from transship.supervisor.status import Phase, read_status
from transship.supervisor.supervisor import DEBOUNCE_S, Plan, Supervisor

LAST_LINES: Final = 8
"""Lines of a component that are shown when it did not start."""

KILLED: Final = 128
"""Added to the number of the signal that killed a process, in the exit status of the process above it."""

HEARD_WITHIN_S: Final = 10.0
"""Longest wait for a supervisor to say that it heard a stop signal, before it gets another one."""

UNCAUGHT_LOG: Final = "supervisor.stderr"
"""Takes what a supervisor in the background writes when it fails in a way nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to supervise in which home directory.

    Attributes:
        settings: in force.
        lock: the home directory's, taken by this process.
        components: the process table.
        replan: returns the process table with the newest settings taken; refuses those that cannot be put in force.
        fork_server: forks components at the start; None: all are started.
    """

    settings: Settings
    lock: HomeLock
    components: tuple[Component, ...]
    replan: Callable[[], tuple[Component, ...]]
    fork_server: Component | None = None


def run_in_foreground(launch: Launch, on_ready: Callable[[], None]) -> int:
    """Supervise until a signal asks to stop; return the exit status.

    Args:
        launch: what to supervise.
        on_ready: called once in the supervising process, when everything is up.
    """
    console = Console()

    def ready() -> None:
        on_ready()
        notify_service_manager()

    return _guarded(launch, console, ready, lambda error: console("error", str(error)))


def notify_service_manager() -> None:
    """Tell systemd that everything is up, if it started this process in a unit with ``Type=notify``.

    Source: sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.sendto(b"READY=1", address.replace("@", "\0", 1) if address.startswith("@") else address)


def run_in_background(launch: Launch, show: Sink) -> int:
    """Start the supervisor in a session of its own; return when it is ready or has failed.

    Args:
        launch: what to supervise.
        show: takes the supervisor's own lines while it starts.

    Returns:
        0 when everything is up; 1 when the start failed, and nothing of it runs any more.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(reading)
        _detach(log_dir(launch.settings) / UNCAUGHT_LOG)
        report = _Report(writing)
        os._exit(_guarded(launch, report, report.ready, report.failed))
    os.close(writing)
    # The lock stays with the child: it belongs to the open file, which both share until here.
    launch.lock.release()
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            event, component, text = json.loads(line)
            if event == _Report.READY:
                return 0
            show(component, text)
    return 1


def stop_running(settings: Settings, now: bool, on_wait: Callable[[int], None]) -> bool:
    """Stop the supervisor that runs in the home directory, and wait until nothing of it is left.

    Args:
        settings: in force; the supervisor's limits are taken from here.
        now: kill everything instead of letting imports end.
        on_wait: called with the supervisor's pid once it was told to stop.

    Returns:
        False when nothing ran.

    Raises:
        StopFailed: it has not ended in time; it goes on stopping.
    """
    if not is_locked(settings):
        return False
    limits = settings.supervisor
    limit_s = limits.drain_s + 10 * limits.kill_after_s
    end = time.monotonic() + limit_s
    told = hurried = False
    pid, told_at, heard_at = 0, 0.0, 0.0
    while is_locked(settings):
        holder = read_holder(settings)
        if holder is not None and not told:
            write_stop_note(settings, f"'transship down', process {os.getpid()}")
            told = signal_holder(holder, signal.SIGTERM)
            pid, told_at = holder.pid, time.monotonic()
            on_wait(pid)
        elif holder is not None and now and not hurried:
            # One that has not heard the first signal yet would take both for one.
            if not heard_at and (_is_stopping(settings) or time.monotonic() >= told_at + HEARD_WITHIN_S):
                heard_at = time.monotonic()
            if heard_at and time.monotonic() >= heard_at + 2 * DEBOUNCE_S:
                write_stop_note(settings, "'transship down --now'")
                hurried = signal_holder(holder, signal.SIGTERM)
        if time.monotonic() >= end:
            raise StopFailed(pid, limit_s)
        time.sleep(0.05)
    return True


def _is_stopping(settings: Settings) -> bool:
    status = read_status(status_path(settings))
    return status is not None and status.phase is Phase.STOPPING


class _Report:
    """Tells the process that waits for a start in the background what happens, until it is ready."""

    READY = "ready"
    LINE = "line"

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._last: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))

    def __call__(self, component: str, line: str) -> None:
        if self._descriptor is None:
            return
        if component == SUPERVISOR or line.startswith(WARNING):
            self._send(self.LINE, component, line)
        elif line not in self._last[component]:
            # Each attempt to start a component ends with the same words.
            self._last[component].append(line)

    def ready(self) -> None:
        self._send(self.READY, SUPERVISOR, "")
        self._close()

    def failed(self, error: TransshipError) -> None:
        if isinstance(error, StartFailed):
            for line in self._last[error.component]:
                self._send(self.LINE, error.component, line)
        self._send(self.LINE, "error", str(error))
        self._close()

    def _send(self, event: str, component: str, text: str) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, f"{json.dumps([event, component, text])}\n".encode())
        except BrokenPipeError:
            # Whoever waited has gone away; the start goes on.
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _guarded(
    launch: Launch, sink: Sink, on_ready: Callable[[], None], on_failure: Callable[[TransshipError], None]
) -> int:
    """Supervise in a child process; return its exit status, and log what killed it."""
    code = run_guarded(lambda: _supervise(launch, sink, on_ready, on_failure))
    if code > KILLED:
        output = _output(launch.settings, sink)
        output.line(SUPERVISOR, f"supervisor {describe_exit(KILLED - code)}: all components have been stopped")
        output.close()
    return code


def _output(settings: Settings, sink: Sink) -> Output:
    return Output(log_dir(settings), settings.log.max_bytes, settings.log.backups, sink)


def _supervise(
    launch: Launch, sink: Sink, on_ready: Callable[[], None], on_failure: Callable[[TransshipError], None]
) -> int:
    settings = launch.settings
    # A former one may have ended before it read the note.
    take_stop_note(settings.run_dir)
    launch.lock.write_holder()
    output = _output(settings, sink)
    plan = Plan(
        launch.components,
        settings.home,
        status_path(settings),
        settings.supervisor.start_timeout_s,
        launch.fork_server,
    )
    try:
        asyncio.run(Supervisor(plan, output, on_ready, launch.replan).run())
    except TransshipError as error:
        on_failure(error)
        return 1
    finally:
        output.close()
    return 0


def _detach(error_log: Path) -> None:
    """Leave the caller's session and terminal."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(error_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(errors, 2)
    os.close(null)
    os.close(errors)
