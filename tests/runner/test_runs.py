"""Runs that warm executors carry, on a real Prefect server."""

from __future__ import annotations

import pytest

from tests.fakes.runner import Runner

pytestmark = pytest.mark.real


def test_a_run_ends_well_in_a_warm_executor(runner: Runner) -> None:
    run_id = runner.ask("quick", "well")
    state = runner.ended(run_id)
    assert (state["type"], state["name"], state["message"]) == ("COMPLETED", "Imported", "well"), runner.said()
    assert runner.status is not None
    assert runner.noted("well")[0] in {executor.pid for executor in runner.status.executors}
