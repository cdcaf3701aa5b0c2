"""When an executor is replaced."""

from __future__ import annotations

import pytest

from transship.runner.messages import Outcome
from transship.runner.recycling import Wear, WearLimits, worn_out

LIMITS = WearLimits(runs=50, growth_bytes=100)


@pytest.mark.parametrize(
    ("wear", "reason"),
    [
        pytest.param(Wear(1, 1000, 1000, Outcome.ENDED, "COMPLETED"), "", id="fresh"),
        pytest.param(Wear(49, 1000, 1100, Outcome.ENDED, "COMPLETED"), "", id="on the edge"),
        pytest.param(Wear(50, 1000, 1000, Outcome.ENDED, "COMPLETED"), "50 runs", id="count"),
        pytest.param(Wear(1, 1000, 1101, Outcome.ENDED, "COMPLETED"), "grown", id="memory"),
        pytest.param(Wear(1, 1000, 900, Outcome.ENDED, "FAILED"), "failed", id="failed"),
        pytest.param(Wear(1, 1000, 1000, Outcome.CANCELLED, "RUNNING"), "running", id="cancelled"),
        pytest.param(Wear(1, 1000, 1000, Outcome.ABORTED, ""), "aborted", id="aborted"),
        pytest.param(Wear(1, 1000, 1000, Outcome.BROKEN, "RUNNING"), "running", id="broken"),
    ],
)
def test_an_executor_goes_when_it_is_worn(wear: Wear, reason: str) -> None:
    assert reason in worn_out(wear, LIMITS)
    assert bool(worn_out(wear, LIMITS)) == bool(reason)
