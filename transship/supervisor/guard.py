"""The guard: a process above the supervisor that cleans up if the supervisor itself is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, NoReturn

from transship.host.processes import (
    become_subreaper,
    children,
    end_strangers,
    end_with_parent,
    signal_process,
    stop_signals,
)

END_GRACE_S: Final = 5.0
"""Time for components to end after the supervisor was killed; the kernel sent them SIGTERM."""


def run_guarded(supervise: Callable[[], int]) -> int:
    """Run the supervisor in a child process; when it ends, in whatever way, all its processes end too.

    Must be called before any thread is started.

    Args:
        supervise: runs in the child; its result is the child's exit status.

    Returns:
        The child's exit status; 128 + signal number if it was killed.
    """
    become_subreaper()
    sys.stdout.flush()
    sys.stderr.flush()
    guard = os.getpid()
    forwarded = stop_signals()
    awaited = forwarded | {signal.SIGCHLD}
    inherited = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited - awaited)
        end_with_parent()
        _exit_with(supervise if os.getppid() == guard else lambda: 1)
    status = _wait_forwarding(pid, forwarded)
    _clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, inherited)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _exit_with(supervise: Callable[[], int]) -> NoReturn:
    """End this process with the result; never return to the caller, whose code belongs to the guard."""
    code = 1
    try:
        code = supervise()
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait_forwarding(pid: int, forwarded: frozenset[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(forwarded | {signal.SIGCHLD})
        if number in forwarded:
            signal_process(pid, signal.Signals(number))
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == pid:
            return status


def _clear() -> None:
    """End all processes that the supervisor left."""
    end = time.monotonic() + END_GRACE_S
    while children(os.getpid()) and time.monotonic() < end:
        time.sleep(0.05)
        _reap()
    while end_strangers(set()):
        time.sleep(0.01)


def _reap() -> None:
    for pid in children(os.getpid()):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
