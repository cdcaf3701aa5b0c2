"""What keeps a template from being forked."""

from __future__ import annotations

import subprocess
import sys

import pytest

NATIVE = "import ctypes; c = ctypes.CDLL(None); c.pthread_create(ctypes.byref(ctypes.c_ulong()), None, c.pause, None); "
ASK = "from transship.runner.template import threads; print(threads())"


@pytest.mark.parametrize(("before", "found"), [("", False), (NATIVE, True)], ids=["none", "a library's"])
def test_a_thread_that_python_does_not_know_is_found(before: str, found: bool) -> None:
    said = subprocess.run([sys.executable, "-c", before + ASK], capture_output=True, text=True, check=True).stdout
    assert ("forking is not safe: 2" in said) is found, said
    assert (said.strip() == "[]") is not found
