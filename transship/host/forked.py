"""A forked child process with the part of the interface of `subprocess.Popen` that we need."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from typing import Final

UNKNOWN_EXIT: Final = 255
"""Status of a process that was reaped elsewhere."""


class ForkedProcess:
    """A child of this process.

    Attributes:
        pid: of the process.
        returncode: as of `subprocess.Popen`; None until it was reaped here.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        if self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = UNKNOWN_EXIT
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit status.

        Args:
            timeout: in seconds; None: without a limit.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                ending = select.poll()
                ending.register(descriptor, select.POLLIN)
                ending.poll(None if timeout is None else timeout * 1000)
            finally:
                os.close(descriptor)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it; nothing happens if it has ended."""
        self.send_signal(signal.SIGKILL)
