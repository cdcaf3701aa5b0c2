"""The dispatcher's status file, which `transship status`, `doctor` and the health check read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from config.private_files import write_private
from config.settings import Settings
from transship.host.processes import start_time

STATUS_FILE: Final = "runner.json"

STALE_S: Final = 30.0
"""A dispatcher writes every five seconds; after this many seconds without an update it hangs."""

RUNNER_READY: Final = "runner is ready"
"""Line that the dispatcher prints when it is ready to take runs."""


@dataclass(frozen=True, slots=True)
class ExecutorStatus:
    """One executor.

    Attributes:
        condition: ``starting``, ``idle``, ``busy`` or ``leaving``.
        runs: runs it has carried.
        rss_bytes: its resident memory.
        flow_run_id: of its current run; empty if idle.
        for_s: seconds since its condition changed.
        started: its start time in clock ticks since boot; 0 until it is known.
        run_count: how often that flow run had started before.
    """

    pid: int
    condition: str
    runs: int
    rss_bytes: int
    flow_run_id: str
    for_s: float
    started: int = 0
    run_count: int = 0


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """The dispatcher.

    Attributes:
        pid, started: the dispatcher, and its start time in clock ticks since boot.
        phase: ``starting``, ``serving`` or ``draining``.
        engine: ``warm`` or ``cold``: what carries runs now.
        reason: why the engine is not warm; empty if it is.
        limit: most runs at a time.
        carried: runs in progress.
        template_pid: 0 without a template.
        queues: work queues that it takes runs from.
        executors: oldest first.
        written_at: when the status was written, in seconds since the epoch.
    """

    pid: int
    started: int
    phase: str
    engine: str
    reason: str
    limit: int
    carried: int
    template_pid: int
    queues: tuple[str, ...]
    executors: tuple[ExecutorStatus, ...]
    written_at: float = 0.0

    def problem(self, now: float) -> str:
        """Return why runs are not taken; empty if they are.

        Args:
            now: in seconds since the epoch.
        """
        silent_s = now - self.written_at
        if silent_s > STALE_S:
            silence = f"has not written its status for {silent_s:.0f} s"
            return f"{silence}, although it runs; see the worker's log, and restart it"
        return "" if self.phase == "serving" else f"takes no runs: it is {self.phase}"


def runner_status_path(settings: Settings) -> Path:
    """Return the path of the status file."""
    return settings.run_dir / STATUS_FILE


def write_runner_status(path: Path, status: RunnerStatus) -> None:
    """Replace the status file atomically."""
    write_private(path, json.dumps(asdict(status), indent=1))


def read_runner_status(path: Path) -> RunnerStatus | None:
    """Return the status of the running dispatcher; None if none runs."""
    status = last_runner_status(path)
    return status if status is not None and start_time(status.pid) == status.started else None


def lone_worker(settings: Settings) -> RunnerStatus | None:
    """Return the runner of a host whose API and Prefect run elsewhere; None on other hosts, or if it does not run.

    A host with its own supervisor may have the same settings: check `supervisor.home.is_locked` first.
    """
    return read_runner_status(runner_status_path(settings)) if settings.prefect.api_url else None


def last_runner_status(path: Path) -> RunnerStatus | None:
    """Return the last status that a dispatcher wrote, running or not; None if it is not readable."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        executors = tuple(ExecutorStatus(**one) for one in raw.pop("executors"))
        return RunnerStatus(**{**raw, "queues": tuple(raw["queues"]), "executors": executors})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None
