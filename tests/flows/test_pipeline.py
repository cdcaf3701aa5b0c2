"""What the copies to the stores mean for the import as a whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.pipeline import _failures
from transship.domain.errors import ImportInterrupted, LockLost, StoreFull, StoreUnavailable


def copies(**outcomes: object) -> dict[str, PrefectFuture[str]]:
    """Return futures that have ended so, by store."""
    states: dict[str, Any] = {
        store: Failed(data=outcome) if isinstance(outcome, BaseException) else Completed(data=outcome)
        for store, outcome in outcomes.items()
    }
    return {store: cast(PrefectFuture[str], SimpleNamespace(state=state)) for store, state in states.items()}


def test_failures_are_told_by_store() -> None:
    full, away = StoreFull("b", 1), StoreUnavailable("c", "away")
    assert _failures(copies(a="file:///a", b=full, c=away)) == {"b": full, "c": away}


@pytest.mark.parametrize(
    "end", [ImportInterrupted("the catalogue is away"), LockLost("image", 1), RuntimeError("a defect")], ids=repr
)
def test_what_ends_the_import_is_not_a_failure_of_a_store(end: Exception) -> None:
    with pytest.raises(type(end)) as raised:
        _failures(copies(a=StoreFull("a", 1), b=end, c="file:///c"))
    assert raised.value is end
