"""The runner's status file: written atomically, valid only while its process is alive."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from transship.host.processes import start_time
from transship.host.runner_status import (
    ExecutorStatus,
    RunnerStatus,
    last_runner_status,
    read_runner_status,
    write_runner_status,
)


def status_of(pid: int, started: int) -> RunnerStatus:
    executor = ExecutorStatus(pid, "busy", 3, 1 << 20, "a run", 1.5)
    return RunnerStatus(pid, started, "serving", "warm", "", 4, 1, pid, ("host-here", "default"), (executor,))


def test_what_a_living_runner_wrote_is_read(tmp_path: Path) -> None:
    mine = status_of(os.getpid(), start_time(os.getpid()) or 0)
    write_runner_status(tmp_path / "runner.json", mine)
    assert read_runner_status(tmp_path / "runner.json") == mine


def test_what_a_dead_runner_wrote_is_only_its_last_word(tmp_path: Path) -> None:
    another = status_of(os.getpid(), (start_time(os.getpid()) or 0) - 1)
    write_runner_status(tmp_path / "runner.json", another)
    assert read_runner_status(tmp_path / "runner.json") is None
    assert last_runner_status(tmp_path / "runner.json") == another


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": 1, "executors": []}'])
def test_what_is_no_account_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "runner.json").write_text(text)
    assert last_runner_status(tmp_path / "runner.json") is None


def test_no_file_is_no_account(tmp_path: Path) -> None:
    assert last_runner_status(tmp_path / "runner.json") is None


@pytest.mark.parametrize(
    ("phase", "age_s", "text"),
    [
        ("serving", 1.0, ""),
        ("draining", 1.0, "it is draining"),
        ("serving", 100.0, "has not written its status for 100 s"),
    ],
    ids=["serves", "stops", "hangs"],
)
def test_a_runner_that_takes_no_runs_is_known_by_what_it_wrote(phase: str, age_s: float, text: str) -> None:
    status = replace(status_of(1, 1), phase=phase, written_at=1000.0)
    assert text in status.problem(1000.0 + age_s)
    assert bool(status.problem(1000.0 + age_s)) == bool(text)
