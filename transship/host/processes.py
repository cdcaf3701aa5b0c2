"""Processes on Linux: start times, children, signals, and adopting orphans."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
"""Options of prctl(2). Source: linux/prctl.h."""


def become_subreaper() -> None:
    """Make this process, instead of init, adopt the orphans of its descendants."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Receive SIGTERM when the thread that forked this process ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def name_process(name: str) -> None:
    """Give this process a name that `ps` and `top` show; only the first 15 bytes count."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def threads() -> list[str]:
    """Return a problem if other threads run, else nothing. Counts threads that libraries start outside Python."""
    count = len(os.listdir("/proc/self/task"))
    if count == 1:
        return []
    names = ", ".join(thread.name for thread in threading.enumerate())
    return [f"threads run after the imports, so that forking is not safe: {count}, of which Python knows {names}"]


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone.

    Together with the pid it identifies one process until the machine reboots.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may contain anything; the state follows as field 3.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def cpu_time_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended; 0 if it is gone.

    Source: proc_pid_stat(5), fields 14 to 17.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    ticks = sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, e.g. SIGSTOP, until SIGCONT."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


class Standstills:
    """Remembers how long processes have been stopped.

    A stopped process does not work and only dies of SIGKILL, so its owner has to notice.

    Args:
        limit_s: how long a process may be stopped, e.g. for debugging.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._since: dict[int, float] = {}

    def overdue(self, pids: Iterable[int], now: float) -> set[int]:
        """Return the processes that were found stopped at every call for too long.

        Args:
            pids: all watched processes.
            now: seconds of a monotonic clock.
        """
        self._since = {pid: self._since.get(pid, now) for pid in pids if is_stopped(pid)}
        return {pid for pid, since in self._since.items() if now - since >= self.limit_s}


def children(pid: int) -> list[int]:
    """Return the pids of a process's direct children, zombies included; empty if it is gone."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(int(child) for child in task.read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes below a process, parents before their children."""
    found = children(pid)
    for child in found:
        found.extend(children(child))
    return found


def variable_of(pid: int, name: str) -> str:
    """Return an environment variable that a process was started with; empty if unset, or if the process is gone."""
    try:
        found = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    mark = f"{name}=".encode()
    return next((entry[len(mark) :].decode() for entry in found.split(b"\0") if entry.startswith(mark)), "")


def in_our_session(pid: int) -> bool:
    """Whether a process is in this process's session."""
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return False


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def running_children(pid: int) -> list[int]:
    """Return the direct children of a process that have not ended."""
    return [child for child in children(pid) if start_time(child) is not None]


def stop_signals() -> frozenset[signal.Signals]:
    """Return the signals that ask this process to stop: also SIGHUP, unless it was started under nohup."""
    wanted = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.add(signal.SIGHUP)
    return frozenset(wanted)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process of ours; nothing happens if it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; nothing happens if it is gone."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def end_strangers(ours: set[int]) -> list[int]:
    """Kill and reap every child of this process that it did not start itself.

    They are orphans that this process adopted as subreaper, left behind by a killed process, e.g. a
    qemu-img that would keep writing to an abandoned image.

    Args:
        ours: pids of children that are left alone.

    Returns:
        Pids that were killed or reaped; their own children are ours at the next call.
    """
    strangers = [pid for pid in children(os.getpid()) if pid not in ours]
    for pid in strangers:
        signal_process(pid, signal.SIGKILL)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
    return strangers


def describe_exit(status: int) -> str:
    """Describe an exit status of `subprocess`: ``exit status 1``, ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def give_memory_back() -> None:
    """Return to the kernel what this process has freed, where the C library can."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
