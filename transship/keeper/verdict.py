"""What to do about an unfinished import, given its state in the catalogue and in Prefect. Pure decisions.

Only the lease's holder, or the process that takes over an expired lease, ends a task. While a lease is live,
Prefect's state is ignored, because Prefect marks live runs as Crashed after an outage of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from transship.catalog.leases import LeaseState
from transship.domain.task import ImportTask, RunState, TaskStatus, status_of_prefect_state
from transship.keeper.prefect_api import FlowRunState


class Action(StrEnum):
    """What the keeper does with an import."""

    NOTHING = "nothing"
    RESUME = "resume"
    END = "end"
    RESCHEDULE = "reschedule"
    """Reschedule the run in Prefect; the import itself has lost nothing yet."""
    MIRROR = "mirror"
    """Write the task status that corresponds to Prefect's state."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reason, worded for the user."""

    action: Action
    reason: str = ""
    status: TaskStatus | None = None


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long the keeper waits, in seconds.

    Attributes:
        pending_timeout_s: for a worker to begin a request.
        stuck_s: before a run that is Pending or Running in Prefect but was never begun counts as lost.
    """

    pending_timeout_s: float
    stuck_s: float


def judge(task: ImportTask, lease: LeaseState, run: FlowRunState | None, limits: TimeLimits) -> Verdict:
    """Decide about one unfinished import.

    Args:
        task: pending or processing.
        lease: the lease of its image.
        run: its flow run; None when it was not dispatched yet, or when Prefect does not have it (any more).
        limits: how long an import may wait.
    """
    if lease.task_id != task.id:
        return Verdict(Action.END, "the import was superseded")
    if lease.live:
        return Verdict(Action.NOTHING)
    if lease.state == "held":
        return _lost(run)
    if run is None:
        return _not_dispatched(task, lease, limits)
    return _queued(task, lease, run, limits)


def _lost(run: FlowRunState | None) -> Verdict:
    """The worker stopped renewing its lease."""
    if run is None:
        return Verdict(Action.RESUME, "the worker of this import was lost, and Prefect forgot its run")
    if run.type in ("CANCELLED", "CANCELLING"):
        return Verdict(Action.END, _with_message("the import was cancelled in Prefect", run))
    if run.type == "PAUSED":
        return Verdict(Action.END, "the run was paused or suspended in Prefect; import the image again")
    return Verdict(Action.RESUME, "the worker of this import was lost")


def _not_dispatched(task: ImportTask, lease: LeaseState, limits: TimeLimits) -> Verdict:
    if lease.age_s > limits.pending_timeout_s:
        return _timed_out(task, limits)
    if task.flow_run_id is not None and lease.age_s > limits.stuck_s:
        return Verdict(Action.RESUME, "Prefect forgot the run of this import")
    return Verdict(Action.NOTHING)


def _queued(task: ImportTask, lease: LeaseState, run: FlowRunState, limits: TimeLimits) -> Verdict:
    """A run exists, but no process has begun this attempt."""
    match run.type:
        case "CANCELLED":
            return Verdict(Action.END, _with_message("the import was cancelled in Prefect before it began", run))
        case "FAILED":
            return Verdict(Action.END, _with_message("the run failed before the import began", run))
        case "PAUSED":
            return Verdict(Action.END, "the run was paused in Prefect before it began; import the image again")
        case "CRASHED":
            return Verdict(Action.RESUME, _with_message("the run crashed before the import began", run))
        case "COMPLETED" if run.name == RunState.SUPERSEDED:
            # A late report of an earlier attempt, which must not end this one.
            return Verdict(Action.RESUME, "an earlier attempt of the run reported its end late")
        case "COMPLETED":
            return Verdict(Action.END, _with_message("the run ended without carrying the import", run))
        case _ if lease.age_s > limits.pending_timeout_s:
            return _timed_out(task, limits)
        case "PENDING" | "RUNNING" if min(run.age_s, lease.age_s) > limits.stuck_s:
            return Verdict(Action.RESCHEDULE, f"the run was {run.name} for {run.age_s:.0f} s without a process")
    status = status_of_prefect_state(run.type, run.name)
    return Verdict(Action.NOTHING) if status is task.status else Verdict(Action.MIRROR, "", status)


def _timed_out(task: ImportTask, limits: TimeLimits) -> Verdict:
    # The task's message gives the best reason for the wait.
    why = f" ({task.message})" if task.message else "; ask the operator whether workers are running"
    return Verdict(
        Action.END, f"no worker began the import within {limits.pending_timeout_s:.0f} s{why}. Import the image again"
    )


def _with_message(text: str, run: FlowRunState) -> str:
    return f"{text}: {run.message}" if run.message else text
