"""What prevents a template from being forked, and how it ends."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

NATIVE = "import ctypes; c = ctypes.CDLL(None); c.pthread_create(ctypes.byref(ctypes.c_ulong()), None, c.pause, None); "
ASK = "from transship.host.processes import threads; print(threads())"


@pytest.mark.parametrize(("before", "found"), [("", False), (NATIVE, True)], ids=["none", "a library's"])
def test_a_thread_that_python_does_not_know_is_found(before: str, found: bool) -> None:
    said = subprocess.run([sys.executable, "-c", before + ASK], capture_output=True, text=True, check=True).stdout
    assert ("forking is not safe: 2" in said) is found, said
    assert (said.strip() == "[]") is not found


def test_a_template_whose_dispatcher_dies_before_it_has_listened_ends_without_a_trace() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-m", "tests.fakes.trial_template", str(theirs.fileno()), "well"]
        template = subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
        )
        theirs.close()
        assert select.select([ours], [], [], 60)[0]
    # What it had said was not read, so that the kernel tells it of a reset.
    assert (template.communicate(timeout=60)[1], template.returncode) == ("", 0)
