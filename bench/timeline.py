"""Where the time of one import went: steps without gaps, from the records of API, Prefect and flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flows.carrying import FIRST_LINE
from tests.fakes.system import System, until
from transship.catalog.engine import Catalog
from transship.catalog.tasks import get_task

ANSWER: Final = "API: from request to task row"
DISPATCH: Final = "API commit, wake-up, keeper: until Prefect makes the run"
CLAIM: Final = "Prefect: run made, until it is claimed"
START: Final = "handing over, executor: until Running"
FIRST: Final = "Prefect engine: until the flow's first line"
BEGIN: Final = "flow: settings, catalogue, lease, session"
BETWEEN: Final = "Prefect engine: between tasks"
SEEN: Final = "from the end of finish until a client sees active"
TOGETHER: Final = frozenset({"digest", "place"})
"""Tasks that threads of one flow run in parallel."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One import as seen by its client; times in seconds since the epoch.

    Attributes:
        asked_at: before the request was sent; active_at: when the client saw the active image.
    """

    image_id: str
    task_id: str
    asked_at: float
    active_at: float

    @property
    def active_s(self) -> float:
        """Seconds from the request to the active image."""
        return self.active_at - self.asked_at


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps of one import.

    Attributes:
        first_line_s: seconds from the request to the first line of the flow.
        steps: seconds by step, in order; together they are the whole time.
    """

    first_line_s: float
    active_s: float
    steps: Mapping[str, float]


def timelines(system: System, imports: Sequence[Asked]) -> list[Timeline]:
    """Read the records of imports; wait until Prefect has recorded everything."""
    catalog = Catalog.open(system.settings)
    try:
        return [_timeline(system, catalog, one) for one in imports]
    finally:
        catalog.close()


def _timeline(system: System, catalog: Catalog, one: Asked) -> Timeline:
    with catalog.read() as connection:
        task = get_task(connection, one.task_id)
    run_id = str(task.flow_run_id)
    run = system.prefect("GET", f"/flow_runs/{run_id}")
    states = system.prefect("GET", f"/flow_run_states/?flow_run_id={run_id}")
    entered = {state["type"]: _seconds(state["timestamp"]) for state in reversed(states)}
    first_line = until(lambda: _first_line(system, run_id), 30.0, "the flow's first line in Prefect")
    tasks = until(lambda: _task_runs(system, run_id), 30.0, "all task runs in Prefect")
    marks = [
        (ANSWER, task.created_at.timestamp()),
        (DISPATCH, _seconds(run["created"])),
        (CLAIM, entered["PENDING"]),
        (START, entered["RUNNING"]),
        (FIRST, first_line),
        (BEGIN, tasks[0][1]),
    ]
    for name, began, ended in _one_after_another(tasks):
        marks += [(BETWEEN, began), (name, ended)]
    marks.append((SEEN, one.active_at))
    return Timeline(first_line - one.asked_at, one.active_s, _steps(one.asked_at, marks))


def _steps(began: float, marks: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the seconds that end at each mark; differences between processes' clocks are not counted twice."""
    steps: dict[str, float] = {}
    now = began
    for name, ended in marks:
        steps[name] = steps.get(name, 0.0) + max(0.0, ended - now)
        now = max(now, ended)
    return steps


def _one_after_another(tasks: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Join tasks that ran, or may run, at the same time, so a step has the same name in every import."""
    joined: list[tuple[set[str], float, float]] = []
    for name, began, ended in tasks:
        if joined and (began < joined[-1][2] or {name, *joined[-1][0]} <= TOGETHER):
            names, first, last = joined.pop()
            joined.append((names | {name}, first, max(last, ended)))
        else:
            joined.append(({name}, began, ended))
    return [(f"task {' & '.join(sorted(names))}", began, ended) for names, began, ended in joined]


def _first_line(system: System, run_id: str) -> float | None:
    asked = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    found = system.prefect("POST", "/logs/filter", asked)
    return next((_seconds(line["timestamp"]) for line in found if FIRST_LINE in line["message"]), None)


def _task_runs(system: System, run_id: str) -> list[tuple[str, float, float]] | None:
    """Return name, begin and end of the task runs in order; None while one is not recorded."""
    asked = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 100}
    found: list[dict[str, Any]] = system.prefect("POST", "/task_runs/filter", asked)
    ended = [one for one in found if one["start_time"] and one["end_time"]]
    names = {str(one["name"]).split(" ", maxsplit=1)[0].split("-")[0] for one in ended}
    if len(ended) < len(found) or "finish" not in names:
        return None
    rows = [(one["name"].split(" ")[0], _seconds(one["start_time"]), _seconds(one["end_time"])) for one in ended]
    return sorted(rows, key=lambda row: row[1])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
