"""Runs commands like a user at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_at_terminal(command: Sequence[str], environ: Mapping[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard input is a terminal; clients take anything else for image data.

    Args:
        environ: what is added to the bare environment.
        home: home directory, so that no configuration of the machine's is read.
    """
    controller, terminal = pty.openpty()
    try:
        return subprocess.run(
            command,
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "200", **environ},
        )
    finally:
        os.close(controller)
        os.close(terminal)
