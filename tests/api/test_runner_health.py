"""The health check's report on the machine's runner."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.loading import load_settings
from transship.api import health
from transship.host.processes import start_time
from transship.host.runner_status import RunnerStatus, runner_status_path, write_runner_status


@pytest.mark.parametrize(
    ("engine", "reason", "age_s", "text"),
    [
        ("warm", "", 0.0, "serving, warm engine, 1 of 4 runs"),
        ("cold", "a dry run ended broken", 0.0, "serving, cold engine, 1 of 4 runs; a dry run ended broken"),
        ("warm", "", 100.0, "serving, warm engine, 1 of 4 runs; has not written its status for 100 s"),
    ],
    ids=["well", "cold", "hangs"],
)
def test_the_health_check_says_which_engine_carries_runs_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, reason: str, age_s: float, text: str
) -> None:
    monkeypatch.setattr(health, "time", SimpleNamespace(time=lambda: 5000.0))
    settings = load_settings(environ={"TRANSSHIP_HOME": str(tmp_path)}).settings
    settings.run_dir.mkdir(parents=True)
    started = start_time(os.getpid()) or 0
    status = RunnerStatus(os.getpid(), started, "serving", engine, reason, 4, 1, 0, (), (), 5000.0 - age_s)
    write_runner_status(runner_status_path(settings), status)
    assert health._runner_state(settings).startswith(text)
