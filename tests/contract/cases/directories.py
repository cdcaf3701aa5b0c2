"""A file store with several directories under test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.contract.cases.case import StoreCase
from tests.contract.cases.file import away_from
from transship.host.directories import MARK
from transship.stores.directories import DirectoriesStore


@contextmanager
def directories_case(_request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    directories = [tmp_path / parent / "images" for parent in ("first", "second")]

    def leave_temporary(image_id: str, epoch: int) -> None:
        (directories[(epoch + 1) % 2] / f"{image_id}.{epoch}.part").write_bytes(b"half")

    def names() -> set[str]:
        return {name for each in directories for name in os.listdir(each)} - {MARK}

    @contextmanager
    def away() -> Iterator[None]:
        with ExitStack() as undo:
            for each in directories:
                undo.enter_context(away_from(each)())
            yield

    store = DirectoriesStore("shelf", [(each, 0) for each in directories], 0o640, "catalogue")
    store.prepare((), before=False)
    yield StoreCase(store, leave_temporary, names, away)
