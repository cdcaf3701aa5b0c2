"""The store of the fault tests, without faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.cases.case import StoreCase
from tests.fakes.flaky_store import FlakyStore


@contextmanager
def flaky_case(_request: pytest.FixtureRequest, _tmp_path: Path) -> Iterator[StoreCase]:
    store = FlakyStore()

    def leave_temporary(image_id: str, epoch: int) -> None:
        store.temporaries[image_id, epoch] = b"half"

    def names() -> set[str]:
        return set(store.objects) | {f"{image_id}.{epoch}" for image_id, epoch in store.temporaries}

    @contextmanager
    def away() -> Iterator[None]:
        store.away = True
        yield
        store.away = False

    yield StoreCase(store, leave_temporary, names, away)
