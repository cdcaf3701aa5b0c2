"""Runs in warm executors, on a real Prefect server."""

from __future__ import annotations

import os
import signal

import pytest

from tests.fakes.runner import Runner, until
from transship.host.processes import start_time

pytestmark = pytest.mark.real


def gone(pid: int) -> bool:
    return start_time(pid) is None


def test_a_run_ends_well_in_a_warm_executor(runner: Runner) -> None:
    run_id = runner.ask("quick", "well")
    state = runner.ended(run_id)
    assert (state["type"], state["name"], state["message"]) == ("COMPLETED", "Imported", "well"), runner.said()
    assert runner.status is not None
    assert runner.noted("well")[0] in {executor.pid for executor in runner.status.executors}


def test_executors_are_used_again(runner: Runner) -> None:
    for number in range(4):
        runner.ended(runner.ask("quick", f"again-{number}"))
    assert len({runner.noted(f"again-{number}")[0] for number in range(4)}) <= 2


def test_an_executor_whose_run_failed_is_replaced(runner: Runner) -> None:
    assert runner.ended(runner.ask("failing", "fails"))["message"] == "as asked"
    pid = runner.noted("fails")[0]
    until(lambda: gone(pid), runner.said)
    until(lambda: runner.status and len([one for one in runner.status.executors if one.condition == "idle"]) == 2)


def test_a_cancelled_run_undoes_and_leaves_nothing(runner: Runner) -> None:
    run_id = runner.ask("held", "cancelled", parameters={"child": True})
    pid, child = runner.noted("cancelled")
    runner.set_state(run_id, "CANCELLING", "Cancelling")
    assert runner.ended(run_id)["type"] == "CANCELLED"
    assert (runner.home / "cancelled.undone").exists()
    until(lambda: gone(pid) and gone(child), runner.said)


def test_a_run_that_does_not_stop_is_killed_in_the_end(runner: Runner) -> None:
    run_id = runner.ask("deaf", "deaf")
    pid = runner.noted("deaf")[0]
    runner.set_state(run_id, "CANCELLING", "Cancelling")
    assert runner.ended(run_id)["type"] == "CANCELLED"
    until(lambda: gone(pid), runner.said)


def test_a_suspended_run_stops_and_stays_suspended(runner: Runner) -> None:
    run_id = runner.ask("held", "suspended")
    pid, _ = runner.noted("suspended")
    runner.set_state(run_id, "PAUSED", "Suspended")
    until(lambda: gone(pid), runner.said)
    assert runner.run(run_id)["state"]["type"] == "PAUSED"
    runner.set_state(run_id, "CANCELLED", "Cancelled")


@pytest.mark.parametrize(
    ("number", "text"),
    [(signal.SIGKILL, "its process was killed by SIGKILL"), (signal.SIGTERM, "termination signal")],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_run_whose_process_dies_is_crashed_and_leaves_nothing(
    runner: Runner, number: signal.Signals, text: str
) -> None:
    run_id = runner.ask("held", number.name, parameters={"child": True})
    pid, child = runner.noted(number.name)
    os.kill(pid, number)
    state = runner.ended(run_id)
    assert state["type"] == "CRASHED"
    assert text in state["message"]
    until(lambda: gone(pid) and gone(child), runner.said)


def test_a_segfault_hits_one_run(runner: Runner) -> None:
    other = runner.ask("held", "beside")
    runner.noted("beside")
    state = runner.ended(runner.ask("segfault", "segfault"))
    assert (state["type"], state["message"]) == ("CRASHED", "its process was killed by SIGSEGV")
    runner.let_go("beside")
    assert runner.ended(other)["type"] == "COMPLETED"


def test_a_template_that_dies_is_replaced(runner: Runner) -> None:
    run_id = runner.ask("held", "orphaned", parameters={"child": True})
    pid, child = runner.noted("orphaned")
    assert runner.status is not None
    template = runner.status.template_pid
    os.kill(template, signal.SIGKILL)
    assert runner.ended(run_id)["type"] == "CRASHED"
    until(lambda: gone(pid) and gone(child), runner.said)
    assert runner.ended(runner.ask("quick", "after the template"))["type"] == "COMPLETED"
    until(lambda: runner.status and runner.status.template_pid not in (0, template), runner.said)


def test_a_reload_gives_new_runs_new_processes_and_lets_old_ones_end(runner: Runner) -> None:
    run_id = runner.ask("held", "before")
    pid, _ = runner.noted("before")
    assert runner.status is not None
    template = runner.status.template_pid
    os.kill(runner.pid, signal.SIGHUP)
    until(lambda: runner.status and runner.status.template_pid not in (0, template), runner.said, 540.0)
    assert runner.ended(runner.ask("quick", "meanwhile"))["type"] == "COMPLETED"
    runner.let_go("before")
    assert runner.ended(run_id)["type"] == "COMPLETED"
    until(lambda: gone(pid) and gone(template), runner.said)


def test_a_retry_runs_again(runner: Runner) -> None:
    run_id = runner.ask("quick", "retried")
    runner.ended(run_id)
    (runner.home / "retried").unlink()
    runner.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    runner.noted("retried")
    assert runner.ended(run_id)["type"] == "COMPLETED"
    assert runner.run(run_id)["run_count"] == 2


def test_the_queue_of_this_host_is_served_and_no_other_hosts(runner: Runner) -> None:
    elsewhere = runner.ask("quick", "elsewhere", queue="host-another")
    here = runner.ask("quick", "here", queue="host-here")
    assert runner.ended(here)["type"] == "COMPLETED"
    assert runner.run(elsewhere)["state"]["type"] == "SCHEDULED"


def test_the_limit_of_the_pool_holds(runner: Runner) -> None:
    runner.server.ask("PATCH", f"/work_pools/{runner.pool}", {"concurrency_limit": 1})
    try:
        runs = [runner.ask("held", f"limited-{number}") for number in range(2)]
        until(lambda: [one for one in range(2) if (runner.home / f"limited-{one}").exists()], runner.said)
        assert len([run for run in runs if runner.run(run)["state"]["type"] == "RUNNING"]) <= 1
        for number in range(2):
            runner.let_go(f"limited-{number}")
        assert [runner.ended(run)["type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    finally:
        runner.server.ask("PATCH", f"/work_pools/{runner.pool}", {"concurrency_limit": None})
        for number in range(2):
            runner.let_go(f"limited-{number}")


def test_a_paused_queue_keeps_its_runs_until_it_is_resumed(runner: Runner) -> None:
    path = f"/work_pools/{runner.pool}/queues/default"
    runner.server.ask("PATCH", path, {"is_paused": True})
    try:
        waiting = runner.ask("quick", "paused")
        assert runner.ended(runner.ask("quick", "beside the pause", queue="host-here"))["type"] == "COMPLETED"
        assert runner.run(waiting)["state"]["type"] == "SCHEDULED"
    finally:
        runner.server.ask("PATCH", path, {"is_paused": False})
    assert runner.ended(waiting)["type"] == "COMPLETED"


def test_more_runs_than_executors_all_end(runner: Runner) -> None:
    runs = [runner.ask("quick", f"many-{number}") for number in range(8)]
    assert {runner.ended(run)["type"] for run in runs} == {"COMPLETED"}


def test_a_run_with_job_variables_gets_an_interpreter_of_its_own(runner: Runner) -> None:
    run_id = runner.ask("quick", "cold", job_variables={"env": {"ODD": "1"}})
    assert runner.ended(run_id, 540.0)["type"] == "COMPLETED", runner.said()
    assert runner.status is not None
    assert runner.noted("cold")[0] not in {executor.pid for executor in runner.status.executors}


def test_what_a_killed_run_leaves_is_killed_and_a_cold_run_goes_on(runner: Runner) -> None:
    cold = runner.ask("held", "cold beside", job_variables={"env": {"ODD": "1"}})
    runner.noted("cold beside")
    runner.ask("held", "killed beside", parameters={"child": True})
    pid, child = runner.noted("killed beside")
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid) and gone(child), runner.said)
    runner.let_go("cold beside")
    assert runner.ended(cold)["type"] == "COMPLETED"


def test_a_retry_of_a_running_run_starts_no_second_one(runner: Runner) -> None:
    run_id, name = runner.ask("held", "retried meanwhile"), "retried meanwhile"
    pids = runner.noted(name)
    (runner.home / name).unlink()
    runner.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    until(lambda: f'it continues here" flow_run_id={run_id}' in runner.log.read_text(), runner.said)
    runner.let_go(name)
    assert runner.ended(run_id)["type"] == "COMPLETED"
    assert not (runner.home / name).exists(), f"a second process beside {pids}"
