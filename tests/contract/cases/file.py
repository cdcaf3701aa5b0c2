"""File stores under test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.contract.cases.case import StoreCase
from transship.host.directories import MARK
from transship.stores.file import FileStore


def file_case_in(directory: Path) -> StoreCase:
    def leave_temporary(image_id: str, epoch: int) -> None:
        (directory / f"{image_id}.{epoch}.part").write_bytes(b"half")

    def names() -> set[str]:
        return set(os.listdir(directory)) - {MARK}

    store = FileStore("shelf", directory, 0o640, "catalogue")
    store.prepare((), before=False)
    return StoreCase(store, leave_temporary, names, away_from(directory))


def away_from(directory: Path) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def away() -> Iterator[None]:
        """An empty directory, as a mount point is."""
        mounted = directory.rename(directory.with_name("mounted elsewhere"))
        directory.mkdir()
        try:
            yield
            assert os.listdir(directory) == []
        finally:
            directory.rmdir()
            mounted.rename(directory)

    return away


@contextmanager
def file_case(_request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    yield file_case_in(tmp_path / "images")


@contextmanager
def file_case_on_another_filesystem(_request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another filesystem that can be written")
    with tempfile.TemporaryDirectory(dir=other) as directory:
        yield file_case_in(Path(directory) / "images")
