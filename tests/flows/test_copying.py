"""The effect of a copy's end on the whole import."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.copying import failure_of, stores_failed
from transship.domain.errors import ImportInterrupted, LockLost, StoreFull, StoresUnavailable, StoreUnavailable


def copy(outcome: object) -> PrefectFuture[str]:
    """Return a future that has ended so."""
    state: Any = Failed(data=outcome) if isinstance(outcome, BaseException) else Completed(data=outcome)
    return cast(PrefectFuture[str], SimpleNamespace(state=state, wait=lambda: None))


@pytest.mark.parametrize("failure", [StoreFull("b", 1), StoreUnavailable("c", "away")], ids=repr)
def test_a_store_that_failed_tells_why(failure: Exception) -> None:
    assert failure_of(copy(failure)) is failure


def test_a_store_that_was_written_has_no_failure() -> None:
    assert failure_of(copy("file:///a")) is None


@pytest.mark.parametrize(
    "end", [ImportInterrupted("the catalogue is away"), LockLost("image", 1), RuntimeError("a defect")], ids=repr
)
def test_what_ends_the_import_is_not_a_failure_of_a_store(end: Exception) -> None:
    with pytest.raises(type(end)) as raised:
        failure_of(copy(end))
    assert raised.value is end


def test_stores_that_failed_may_pass_only_if_each_of_them_may() -> None:
    away, full = StoreUnavailable("a", "away"), StoreFull("b", 1)
    assert isinstance(stores_failed({"a": away}), StoresUnavailable)
    both = stores_failed({"a": away, "b": full})
    assert (both.retryable, str(both)) == (False, f"{away}; {full}")
