"""Stores and directories for the tests of this room."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.ceph import Ceph
from tests.fakes.file_stores import prepared
from transship.stores.file import FileStore

if TYPE_CHECKING:
    from tests.fakes.rbd_pool import RbdPool


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(images: Path) -> FileStore:
    return prepared("shelf", images)


@pytest.fixture
def other_filesystem(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another filesystem that can be written")
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        yield Path(directory)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everyone may enter; pytest's are closed to others."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def rbd_pool(ceph: Ceph) -> Iterator[RbdPool]:
    """A pool of a real Ceph for a module; a test that uses it leaves it empty."""
    from tests.fakes.rbd_pool import RbdPool  # noqa: PLC0415 - only --peers installs what it imports

    with RbdPool(ceph) as pool:
        yield pool
