from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.images import NOW
from transship.catalog.leases import LeaseState
from transship.domain.errors import UnknownPrefectState
from transship.domain.task import (
    STATUS_OF_TYPE,
    ImportTask,
    RunState,
    TaskStatus,
    status_of_prefect_state,
)
from transship.keeper.prefect_api import FlowRunState
from transship.keeper.verdict import Action, TimeLimits, judge

LIMITS = TimeLimits(pending_timeout_s=7200.0, stuck_s=90.0)
TYPES = [*STATUS_OF_TYPE]


def task(status: TaskStatus = TaskStatus.PENDING, flow_run_id: str | None = "run") -> ImportTask:
    return ImportTask("task", "image", "web-download", status, "", NOW, NOW, flow_run_id=flow_run_id)


def lease(state: str, *, expired: bool = False, age_s: float = 1.0, task_id: str = "task") -> LeaseState:
    return LeaseState("image", 3, state, task_id, "me", expired, age_s)


def run(type_: str, age_s: float = 1.0) -> FlowRunState:
    return FlowRunState("run", type_, type_.title(), "because", age_s)


@pytest.mark.parametrize("type_", TYPES)
def test_a_live_import_is_left_alone_whatever_prefect_says(type_: str) -> None:
    processing = task(TaskStatus.PROCESSING)
    assert judge(processing, lease("held"), run(type_), LIMITS).action is Action.NOTHING
    assert judge(processing, lease("held"), None, LIMITS).action is Action.NOTHING


@pytest.mark.parametrize("type_", TYPES)
def test_an_import_that_lost_its_worker_goes_on_unless_somebody_stopped_it(type_: str) -> None:
    verdict = judge(task(TaskStatus.PROCESSING), lease("held", expired=True), run(type_), LIMITS)
    stopped = type_ in ("CANCELLED", "CANCELLING", "PAUSED")
    assert verdict.action is (Action.END if stopped else Action.RESUME)
    assert verdict.reason


def test_an_import_whose_run_prefect_forgot_goes_on() -> None:
    verdict = judge(task(TaskStatus.PROCESSING), lease("held", expired=True), None, LIMITS)
    assert verdict.action is Action.RESUME


@pytest.mark.parametrize(
    ("type_", "action"),
    [
        ("SCHEDULED", Action.NOTHING),
        ("PENDING", Action.NOTHING),
        ("RUNNING", Action.MIRROR),
        ("CANCELLING", Action.MIRROR),
        ("CANCELLED", Action.END),
        ("PAUSED", Action.END),
        ("FAILED", Action.END),
        ("CRASHED", Action.RESUME),
        ("COMPLETED", Action.END),
    ],
)
def test_a_request_that_no_process_has_begun_follows_its_run(type_: str, action: Action) -> None:
    assert judge(task(), lease("queued"), run(type_), LIMITS).action is action


def test_a_request_is_not_ended_by_the_late_word_of_an_earlier_attempt() -> None:
    late = FlowRunState("run", "COMPLETED", RunState.SUPERSEDED, "because", 1.0)
    assert judge(task(), lease("queued"), late, LIMITS).action is Action.RESUME


@pytest.mark.parametrize("type_", ["PENDING", "RUNNING"])
def test_a_run_without_a_process_is_scheduled_again(type_: str) -> None:
    verdict = judge(task(), lease("queued", age_s=200.0), run(type_, age_s=100.0), LIMITS)
    assert verdict.action is Action.RESCHEDULE


def test_a_run_that_was_just_scheduled_again_gets_its_time() -> None:
    verdict = judge(task(), lease("queued", age_s=200.0), run("PENDING", age_s=10.0), LIMITS)
    assert verdict.action is Action.NOTHING


def test_a_request_that_no_worker_begins_ends_after_the_pending_time() -> None:
    verdict = judge(task(), lease("queued", age_s=7300.0), run("SCHEDULED", age_s=7300.0), LIMITS)
    assert verdict.action is Action.END
    assert "no worker" in verdict.reason
    assert "ask the operator whether workers are running" in verdict.reason


def test_a_request_that_ends_after_the_pending_time_says_what_it_waited_for() -> None:
    waiting = replace(task(), message="waits for host two since noon; it is lost")
    verdict = judge(waiting, lease("queued", age_s=7300.0), None, LIMITS)
    assert verdict.action is Action.END
    assert "(waits for host two since noon; it is lost)" in verdict.reason


@pytest.mark.parametrize(
    ("flow_run_id", "age_s", "action"),
    [
        pytest.param(None, 1000.0, Action.NOTHING, id="still in the outbox"),
        pytest.param("run", 10.0, Action.NOTHING, id="just dispatched"),
        pytest.param("run", 100.0, Action.RESUME, id="forgotten by Prefect"),
        pytest.param(None, 7300.0, Action.END, id="too late"),
    ],
)
def test_a_request_without_a_run_waits_for_the_outbox(flow_run_id: str | None, age_s: float, action: Action) -> None:
    verdict = judge(task(flow_run_id=flow_run_id), lease("queued", age_s=age_s), None, LIMITS)
    assert verdict.action is action


def test_a_task_whose_lock_went_to_another_import_ends() -> None:
    verdict = judge(task(), lease("queued", task_id="another"), run("RUNNING"), LIMITS)
    assert verdict.action is Action.END


def test_an_unknown_state_of_prefect_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(UnknownPrefectState):
        status_of_prefect_state("NEW", "New")
