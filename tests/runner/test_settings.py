"""A standalone runner loads the settings at its start and at a reload; its runs use only these."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from config.snapshot import newest_snapshot, read_snapshot
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner, until
from transship.host.runner_status import RUNNER_READY, read_runner_status

pytestmark = pytest.mark.real

TELLING = '''
import time
from pathlib import Path
from prefect import flow
from config.snapshot import settings_in_force

@flow(name="trial-telling")
def telling(directory: str, name: str, hold: bool = False) -> None:
    """Tell a setting, and tell it again when the test says so."""
    for moment in ("now", "later"):
        part = Path(directory, f"{name}.part")
        part.write_text(str(settings_in_force().settings.imports.max_parallel_stores))
        part.rename(Path(directory, f"{name}.{moment}"))
        while hold and not Path(directory, f"{name}.go").exists():
            time.sleep(0.05)
'''


def template_pid(home: Path) -> int:
    """Return the template that the runner has now, whatever its settings files hold."""
    status = read_runner_status(home / "run" / "runner.json")
    return status.template_pid if status is not None else 0


def settings(stores: int) -> str:
    return f"[imports]\nmax_parallel_stores = {stores}\n"


@pytest.mark.parametrize("engine", ["warm", "cold"])
def test_runs_have_the_settings_that_were_taken_last(
    prefect_server: PrefectServer, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "telling.py").write_text(TELLING)
    options = tmp_path / "transship.toml"
    options.write_text(settings(1))
    runner = Runner(prefect_server, tmp_path, {"runner.engine": engine})
    runner.environment |= {"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    with runner:

        def told_to(name: str) -> str:
            ended = runner.ended(runner.ask("telling", name, entrypoint="telling.telling"), 540.0)
            assert ended["type"] == "COMPLETED", runner.log.read_text()
            return (tmp_path / f"{name}.later").read_text()

        def reloaded() -> str:
            """Make the runner reload its settings; return its ready line."""
            before = runner.log.read_text().count(RUNNER_READY)
            os.kill(runner.pid, signal.SIGHUP)
            until(lambda: runner.log.read_text().count(RUNNER_READY) > before, runner.log.read_text, 540.0)
            return runner.log.read_text().rpartition(RUNNER_READY)[2].splitlines()[0]

        held = runner.ask("telling", "held", entrypoint="telling.telling", parameters={"hold": True})
        until((tmp_path / "held.now").exists, runner.log.read_text, 540.0)

        options.write_text("[imports\n")
        assert told_to("broken") == "1"
        assert str(options) in reloaded()
        assert told_to("refused") == "1"
        options.write_text(settings(2) + f'[staging]\ndir = "{tmp_path / "elsewhere"}"\n')
        assert "staging.dir: cannot change while anything runs" in reloaded()
        options.write_text(settings(2) + 'plugins = ["nobody_has"]\n')
        assert "nobody_has" in reloaded()

        options.write_text(settings(2))
        assert told_to("edited") == "1"
        assert reloaded() == ""
        assert told_to("taken") == "2"
        # What began before has what it began with.
        (tmp_path / "held.go").touch()
        assert runner.ended(held)["type"] == "COMPLETED"
        assert (tmp_path / "held.later").read_text() == "1"

        if engine == "warm":
            options.write_text("[imports\n")
            former = template_pid(tmp_path)
            os.kill(former, signal.SIGKILL)
            until(lambda: template_pid(tmp_path) not in (0, former), runner.log.read_text)
            assert told_to("of a new template") == "2"
    newest = newest_snapshot(tmp_path / "run")
    assert newest is not None
    assert not read_snapshot(newest).supervised
