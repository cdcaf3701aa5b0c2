"""A template whose executors need no Prefect: ``-m tests.fakes.trial_template FD WHAT``, with what is to go wrong.

``well``: nothing. ``exits``: executors end at once. ``hangs``: they never end a run. ``deaf``: they never say that
they are ready. ``closes``: they close their channel, and live on. ``forkless:PATH``: no fork while that file exists.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

from transship.host.processes import end_with_parent
from transship.runner.messages import LINE_BYTES, Done, Job, Outcome, Ready, encode_template_message
from transship.runner.template import Template

HANGS = "hangs"
"""An entrypoint whose run never ends; every other one ends well."""


class TrialTemplate(Template):
    def __init__(self, control: socket.socket, what: str) -> None:
        super().__init__(control)
        self._what = what

    def _fork(self) -> int:
        kind, _, path = self._what.partition(":")
        if kind == "forkless" and Path(path).exists():
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return super()._fork()

    def _serve(self, channel: socket.socket) -> int:
        os.setsid()
        end_with_parent()
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if self._what == "exits":
            return 7
        if self._what == "closes":
            channel.close()
        if self._what in ("deaf", "closes"):
            signal.pause()
        lines = channel.makefile("rb")
        channel.sendall(Done(os.getpid(), "", "", "", 0).encode() + b"\n")
        while line := lines.readline(LINE_BYTES):
            job = Job.decode(line)
            if self._what == "hangs" or job.entrypoint == HANGS:
                signal.pause()
            channel.sendall(Done(os.getpid(), Outcome.ENDED, "COMPLETED", "", 0).encode() + b"\n")
        return 0


if __name__ == "__main__":
    end_with_parent()
    ours = socket.socket(fileno=int(sys.argv[1]))
    ours.send(encode_template_message(Ready(os.getpid(), 0.0, [])))
    TrialTemplate(ours, sys.argv[2]).run()
