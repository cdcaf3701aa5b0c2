from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from transship.commands.context import parse_overrides
from transship.commands.images_api import TaskView
from transship.commands.progress import LineView, LiveView, phase_line
from transship.commands.status import component_row, duration, is_healthy
from transship.domain.errors import CommandRefused
from transship.domain.task import StoreProgress
from transship.supervisor.component import Condition
from transship.supervisor.status import ComponentStatus, Phase, SupervisorStatus


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (TaskView("t", "pending", ""), "waiting for a worker"),
        (TaskView("t", "pending", "waits for host two"), "waits for host two"),
        (TaskView("t", "processing", "inspecting"), "inspecting"),
        (TaskView("t", "processing", "digest: 40 %", "digest", 40, 100), "digest: 40 %"),
        (TaskView("t", "processing", "", "stage"), "stage"),
        (TaskView("t", "processing", "", "stage", 2048), "stage, 2.0 KiB"),
        (TaskView("t", "processing", "", "place", 50, 100, 10), "place, 50% of 100 bytes, 10 bytes/s, 6 s left"),
        (TaskView("t", "processing", "", "place", 100, 100, 10), "place, 100% of 100 bytes, 10 bytes/s"),
    ],
)
def test_a_line_says_phase_bytes_rate_and_time_left(task: TaskView, line: str) -> None:
    assert phase_line(task) == line


def test_lines_come_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    done = (StoreProgress("fast", "done", 100, 100, ""), StoreProgress("far", "failed", 5, 100, "store far is full"))
    states = [
        TaskView("t", "pending", ""),
        TaskView("t", "pending", ""),
        TaskView("t", "processing", "", "place", 1, 100),
        TaskView("t", "processing", "", "place", 2, 100),
        TaskView("t", "processing", "", "place", 99, 100, stores=done),
        TaskView("t", "processing", "", "place", 99, 100, stores=done),
        TaskView("t", "success", "done", "place", 100, 100, stores=done),
    ]
    with LineView() as view:
        for state in states:
            view.show(state)
    assert capsys.readouterr().out.splitlines() == [
        "waiting for a worker",
        "place, 1% of 100 bytes",
        "place, 99% of 100 bytes",
        "store fast: done",
        "store far: store far is full",
    ]


HASHING = TaskView(
    "t",
    "processing",
    "place: 0 of 1 stores written; digest 38 %",
    "place",
    0,
    100,
    stores=(StoreProgress("fast", "uploading", 20, 100, rate=10),),
    hashed_bytes=38,
    to_hash_bytes=100,
    hash_rate=31,
)


def test_bars_show_the_digest_and_the_stores_while_copies_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView() as view:
        view.show(TaskView("t", "processing", "", "stage", 90, 100, 10))
        view.show(HASHING)
    shown = capsys.readouterr().out
    assert "stage" not in shown
    digest, store = (" ".join(line.split()) for line in shown.splitlines() if line.strip())
    assert digest.startswith("digest ")
    assert digest.endswith(" 38% of 100 bytes, 31 bytes/s, 3 s left")
    assert store.startswith("store fast: uploading ")
    assert store.endswith(" 20% of 100 bytes, 10 bytes/s, 9 s left")


def test_a_line_comes_after_each_tenth_of_the_digest(capsys: pytest.CaptureFixture[str]) -> None:
    with LineView() as view:
        for hashed_bytes, text in ((1, "digest 1 %"), (5, "digest 5 %"), (12, "digest 12 %")):
            view.show(replace(HASHING, message=text, hashed_bytes=hashed_bytes, stores=()))
    assert capsys.readouterr().out.splitlines() == ["digest 1 %", "digest 12 %"]


def test_a_line_comes_when_a_wait_begins_changes_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    bodies = [
        {"status": "pending", "message": "waits for a"},
        {"status": "pending", "message": "waits for b"},
        {
            "status": "processing",
            "message": "stage: waits for c",
            "progress": {"phase": "stage", "waits": "waits for c"},
        },
        {"status": "processing", "message": "stage: 1 byte", "progress": {"phase": "stage", "waits": ""}},
        {"status": "processing", "message": "stage: 2 bytes", "progress": {"phase": "stage", "waits": ""}},
    ]
    with LineView() as view:
        for body in bodies:
            view.show(TaskView.of({"id": "t", **body}))
    said = capsys.readouterr().out.splitlines()
    assert said == ["waits for a", "waits for b", "stage: waits for c", "stage: 1 byte"]


def test_a_task_without_progress_is_read() -> None:
    assert TaskView.of({"id": "t", "status": "pending", "progress": None, "message": None}).phase == ""
    assert TaskView.of({"id": "t", "status": "failure", "message": "why"}).final


def test_progress_of_a_task_is_read() -> None:
    store = {"store": "fast", "phase": "uploading", "done_bytes": 3, "total_bytes": 9, "error": ""}
    progress = {"phase": "place", "done_bytes": 3, "total_bytes": 9, "rate": 2, "stores": [store]}
    task = TaskView.of({"id": "t", "status": "processing", "message": "", "progress": progress})
    assert task.stores == (StoreProgress("fast", "uploading", 3, 9, ""),)
    assert (task.phase, task.rate) == ("place", 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-3, "0s"), (59, "59s"), (61, "1m 1s"), (3725, "1h 2m"), (90061, "1d 1h")]
)
def test_durations_read_like_speech(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def component(condition: Condition, last_exit: str = "") -> ComponentStatus:
    return ComponentStatus("api", condition, 7, "2026-01-01T00:00:00+00:00", 1, last_exit, "api.log")


def test_a_component_is_a_row() -> None:
    now = datetime(2026, 1, 1, 0, 1, 5, tzinfo=UTC)
    assert component_row(component(Condition.UP, "exit status 1"), now) == (
        "api",
        "up",
        "7",
        "1m 5s",
        "1",
        "exit status 1",
    )


@pytest.mark.parametrize(
    ("phase", "condition", "healthy"),
    [
        (Phase.READY, Condition.UP, True),
        (Phase.READY, Condition.DONE, True),
        (Phase.READY, Condition.UNHEALTHY, False),
        (Phase.READY, Condition.WAITING, False),
        (Phase.STARTING, Condition.UP, False),
        (Phase.STOPPING, Condition.UP, False),
    ],
)
def test_only_all_of_it_up_is_healthy(phase: Phase, condition: Condition, healthy: bool) -> None:
    assert is_healthy(SupervisorStatus(phase, 1, "", (component(condition),))) is healthy


@pytest.mark.parametrize("assignment", ["api.port", "=1", " =1"])
def test_a_setting_without_option_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(CommandRefused, match="OPTION=VALUE"):
        parse_overrides(None, [assignment])


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_overrides(None, ["database.url=postgresql://h/d?a=b"]) == {"database.url": "postgresql://h/d?a=b"}
