"""The private names of Prefect that the warm engine builds on."""

from __future__ import annotations

import pytest

from transship.runner.pins import EXECUTOR_PINS, WORKER_PINS, Pin, problems


def test_this_release_of_prefect_has_them_all() -> None:
    assert problems((*WORKER_PINS, *EXECUTOR_PINS)) == []


@pytest.mark.parametrize(
    ("pin", "text"),
    [
        (Pin("prefect.no_such_module", "anything"), "prefect.no_such_module.anything is gone"),
        (Pin("prefect.flow_engine", "no_such_name"), "prefect.flow_engine.no_such_name is gone"),
        (
            Pin("prefect.flow_engine", "load_flow_run", ("no_such",)),
            "prefect.flow_engine.load_flow_run does not take no_such",
        ),
        (Pin("prefect.workers.base", "BaseWorker.no_such"), "prefect.workers.base.BaseWorker.no_such is gone"),
    ],
)
def test_what_is_missing_is_named(pin: Pin, text: str) -> None:
    assert problems((pin,)) == [text]
