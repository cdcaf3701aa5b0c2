"""The runner's own life: how it ends, what it leaves, and what it does when its executors cannot be used."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner, until
from transship.processes import descendants, start_time

pytestmark = pytest.mark.real

ODD_START = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if start_time(pid) is not None]


def test_a_stop_lets_a_run_end(prefect_server: PrefectServer, tmp_path: Path) -> None:
    with Runner(prefect_server, tmp_path, {"supervisor.drain_s": 60.0}) as runner:
        run_id = runner.ask("held", "held")
        runner.noted("held")
        below = descendants(runner.pid)
        os.kill(runner.pid, signal.SIGTERM)
        until(lambda: runner.status and runner.status.phase == "draining", runner.said)
        late = runner.ask("quick", "late")
        runner.let_go("held")
        assert runner.ended(run_id)["type"] == "COMPLETED"
        until(lambda: runner.process_ended and gone(below), runner.said)
        assert runner.run(late)["state"]["type"] == "SCHEDULED"


def test_a_runner_that_is_killed_leaves_nothing_and_its_runs_are_crashed_by_the_next(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    with Runner(prefect_server, tmp_path) as runner:
        run_id = runner.ask("deaf", "deaf")
        pid = runner.noted("deaf")[0]
        held = runner.ask("held", "held", parameters={"child": True})
        runner.noted("held")
        until(lambda: runner.status and runner.status.carried == 2, runner.said)
        below = descendants(runner.pid)
        os.kill(runner.pid, signal.SIGKILL)
        assert runner.ended(held)["type"] == "CRASHED"
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(below), runner.said)
        assert runner.run(run_id)["state"]["type"] == "RUNNING"
        runner.start()
        assert runner.ended(run_id)["message"] == "its process ended with its worker"


def test_where_forking_is_not_safe_the_cold_engine_is_in_force_and_says_so(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ODD_START)
    runner = Runner(prefect_server, tmp_path)
    runner.environment["PYTHONPATH"] = str(tmp_path / "site")
    with runner:
        assert runner.status is not None
        assert runner.status.engine == "cold"
        assert "forking is not safe" in runner.status.reason
        assert runner.ended(runner.ask("quick", "cold"), 180.0)["type"] == "COMPLETED"
