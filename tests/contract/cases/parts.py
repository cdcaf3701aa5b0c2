"""A store that another distribution provides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.cases.case import StoreCase
from tests.contract.cases.file import away_from
from tests.fakes.parts_store import PartsStore
from transship.host.directories import MARK

PART_BYTES = 1024 * 1024


@contextmanager
def parts_case(_request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    directory = tmp_path / "images"
    uploads = tmp_path / "images.uploads"

    def leave_temporary(image_id: str, epoch: int) -> None:
        (uploads / f"{image_id}.{epoch}.left").mkdir(parents=True)
        (uploads / f"{image_id}.{epoch}.left" / "000000").write_bytes(b"half")

    def names() -> set[str]:
        found = set(os.listdir(directory)) - {MARK}
        return found | set(os.listdir(uploads) if uploads.exists() else ())

    store = PartsStore("shelf", directory, "catalogue", PART_BYTES)
    store.open()
    store.prepare((), before=False)
    yield StoreCase(store, leave_temporary, names, away_from(directory))
    store.close()
