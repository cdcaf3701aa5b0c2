"""File stores for tests, and what may stand in their way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.base import StoreDriver
from transship.stores.file import FileStore

MIB = 1024 * 1024
IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
NOBODY = 65534
CATALOGUE = "6f6b1e44-0000-4000-8000-00000000000c"


def prepared(store_id: str, directory: Path, file_mode: int = 0o640) -> FileStore:
    """Return a store of a catalogue, ready for use."""
    made = FileStore(store_id, directory, file_mode, CATALOGUE)
    made.prepare((), before=False)
    return made


def names(directory: Path) -> list[str]:
    """Return the contents of a store's directory without its mark."""
    return sorted(name for name in os.listdir(directory) if name != MARK)


def stage(directory: Path, content: bytes, epoch: int = 1) -> StagedFile:
    path = directory / f"{IMAGE}.{epoch}.staged"
    path.write_bytes(content)
    path.chmod(0o600)
    return StagedFile(path, len(content), epoch)


def shared_elsewhere(staged: StagedFile) -> StagedFile:
    """Make the inode look like an object of another store with another mode, so that it is not linked again."""
    os.link(staged.path, staged.path.with_suffix(".other"))
    return staged


def ignore(done: int) -> None:
    """Progress that is ignored."""


def put(store: StoreDriver, staged: StagedFile) -> str:
    return store.put(IMAGE, staged, ignore, StopToken()).proof


@contextmanager
def tmpfs(path: Path, *options: str) -> Iterator[None]:
    """Mount a filesystem of 2 MiB, or skip."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(("size=2m", *options)), "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's rights, to which permissions do not apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
