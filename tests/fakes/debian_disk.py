"""A real Debian disk, as scripts/debian-disk makes it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "debian-disk"
VIRTUAL_BYTES: Final = 4 << 30
PATIENCE_S: Final = 600.0


@dataclass(frozen=True)
class DebianDisk:
    """What scripts/debian-disk leaves in a directory."""

    directory: Path

    @property
    def qcow2(self) -> Path:
        return self.directory / "debian.qcow2"

    @property
    def packed(self) -> Path:
        return self.directory / "debian.qcow2.gz"

    @property
    def by_hand(self) -> str:
        """sha512 of what `qemu-img convert` made of the disk."""
        return (self.directory / "debian.raw.sha512").read_text().strip()


def debian_disk(paths: pytest.TempPathFactory) -> DebianDisk:
    """Return the disk, which is made once for all processes of a test run, and once and for all in ``TEST_CACHE_DIR``.

    Skips the test where the script cannot run.
    """
    base = paths.getbasetemp()
    # Each worker of pytest-xdist has a directory of its own, next to those of the others.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory = Path(os.environ.get("TEST_CACHE_DIR") or run) / "debian-disk"
    made = DebianDisk(directory)
    if not made.qcow2.exists() and (os.geteuid() != 0 or shutil.which("apt-get") is None):
        pytest.skip("scripts/debian-disk needs root on a Debian")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([SCRIPT, directory], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return made
