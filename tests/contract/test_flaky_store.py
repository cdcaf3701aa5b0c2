"""The fake fails as configured, like a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.flaky_store import FlakyStore
from transship.domain.errors import StoreFull, StoreUnavailable
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"


@pytest.fixture
def staged(tmp_path: Path) -> StagedFile:
    path = tmp_path / "staged"
    path.write_bytes(b"image")
    return StagedFile(path, 5, 1)


def test_it_fails_as_often_as_told_and_then_works(staged: StagedFile) -> None:
    store = FlakyStore()
    store.fail(StoreUnavailable("flaky", "busy"), times=2)

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="busy"):
            store.put(IMAGE, staged, lambda done: None, StopToken())
        assert (store.objects, store.temporaries) == ({}, {})
    store.put(IMAGE, staged, lambda done: None, StopToken())

    assert store.objects == {IMAGE: b"image"}
    assert store.calls == ["put", "put", "put"]


def test_each_method_has_failures_of_its_own(staged: StagedFile) -> None:
    store = FlakyStore()
    store.fail(StoreFull("flaky", 1), on="check")

    url = store.put(IMAGE, staged, lambda done: None, StopToken()).url

    with pytest.raises(StoreFull):
        store.check()
    store.check()
    assert store.size(url) == 5
