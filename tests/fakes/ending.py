"""How the tests end processes that they started."""

from __future__ import annotations

import subprocess


def end(process: subprocess.Popen[bytes] | None, timeout_s: float) -> int:
    """Terminate a process, and kill it if it does not end in time; return its exit status, 0 without a process."""
    if process is None:
        return 0
    process.terminate()
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
