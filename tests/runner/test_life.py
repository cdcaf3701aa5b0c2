"""The runner's life: how it ends, what it leaves, and what it does when its executors are unusable."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from config.loading import load_settings
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner, until
from transship.host.processes import descendants, start_time
from transship.host.runner_status import runner_status_path
from transship.runner.dispatcher import Dispatcher

pytestmark = pytest.mark.real

ODD_START = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if start_time(pid) is not None]


GROWN = """
from pathlib import Path
from prefect import flow

@flow(name="trial-grown")
def grown(directory: str, name: str) -> None:
    Path(directory, name).write_text("{text}")
"""


@pytest.fixture(scope="module")
def own(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner with settings and code in files of its own, which a test may change."""
    home = tmp_path_factory.mktemp("own")
    runner = Runner(prefect_server, home, {"supervisor.drain_s": 600.0})
    del runner.environment["TRANSSHIP_PREFECT__WORKER_LIMIT"]
    (home / "transship.toml").write_text("[prefect]\nworker_limit = 2\n")
    (home / "site").mkdir()
    runner.environment |= {"PYTHONPATH": str(home / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    (home / "site" / "grown.py").write_text(GROWN.format(text="former code"))
    with runner:
        yield runner


@pytest.fixture
def runner(own: Runner) -> Runner:
    """The module's runner, up."""
    if own.process_ended:
        own.start()
    return own


def test_a_reload_takes_up_new_code_and_a_changed_setting(runner: Runner) -> None:
    def said_by(name: str) -> str:
        assert runner.ended(runner.ask("grown", name, entrypoint="grown.grown"))["type"] == "COMPLETED"
        return (runner.home / name).read_text()

    assert said_by("first") == "former code"
    (runner.home / "site" / "grown.py").write_text(GROWN.format(text="new code"))
    (runner.home / "transship.toml").write_text("[prefect]\nworker_limit = 3\n")
    assert said_by("second") == "former code"
    status = runner.status
    assert status is not None
    assert status.limit == 2
    os.kill(runner.pid, signal.SIGHUP)
    until(
        lambda: (now := runner.status) and now.limit == 3 and now.template_pid not in (0, status.template_pid),
        runner.said,
    )
    until(lambda: runner.status and len(runner.status.executors) == 3, runner.said)
    assert said_by("third") == "new code"


def test_a_runner_that_is_killed_leaves_nothing_and_its_runs_are_crashed_by_the_next(runner: Runner) -> None:
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
    # Another host has resumed this one meanwhile.
    runner.set_state(held, "RUNNING", "Running")
    runner.start()
    assert runner.ended(run_id)["message"] == "its process ended with its worker"
    assert runner.run(held)["state"]["type"] == "RUNNING"


def test_a_stop_lets_a_run_end(runner: Runner) -> None:
    run_id = runner.ask("held", "held at the stop")
    runner.noted("held at the stop")
    below = descendants(runner.pid)
    os.kill(runner.pid, signal.SIGTERM)
    until(lambda: runner.status and runner.status.phase == "draining", runner.said)
    late = runner.ask("quick", "late")
    runner.let_go("held at the stop")
    assert runner.ended(run_id)["type"] == "COMPLETED"
    until(lambda: runner.process_ended and gone(below), runner.said)
    assert runner.run(late)["state"]["type"] == "SCHEDULED"


def test_a_start_that_fails_keeps_the_account_of_what_the_former_runner_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    environ = {"TRANSSHIP_HOME": str(home), "TRANSSHIP_RUNNER__ENGINE": "cold"}
    settings = load_settings(environ=environ).settings
    evidence = runner_status_path(settings)
    evidence.write_text("of the former runner")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")

    async def run() -> None:
        await Dispatcher(settings, ("default",), (), lambda: None).run()

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(httpx.HTTPError):
        asyncio.run(run())
    assert evidence.read_text() == "of the former runner"


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
        assert runner.ended(runner.ask("quick", "cold"), 540.0)["type"] == "COMPLETED"
