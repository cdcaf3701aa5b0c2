"""The import task that API users see, and the mapping of Prefect's states to its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from transship.domain.errors import UnknownPrefectState


class TaskStatus(StrEnum):
    """States of a task; the last two are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILURE = "failure"

    @property
    def final(self) -> bool:
        """Whether the task has ended."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAILURE)


WAITS_FOR: Final = "waits for"
"""Prefix of every explanation of a wait; commands recognise waits by it."""


STATUS_OF_TYPE: Final[Mapping[str, TaskStatus]] = {
    "SCHEDULED": TaskStatus.PENDING,
    "PENDING": TaskStatus.PENDING,
    "RUNNING": TaskStatus.PROCESSING,
    "CANCELLING": TaskStatus.PROCESSING,
    "PAUSED": TaskStatus.FAILURE,
    "COMPLETED": TaskStatus.SUCCESS,
    "FAILED": TaskStatus.FAILURE,
    "CRASHED": TaskStatus.FAILURE,
    "CANCELLED": TaskStatus.FAILURE,
}
"""Task status for each Prefect state *type*. Pausing or suspending ends an import like a cancel, but keeps staging."""


class RunState(StrEnum):
    """Names of the states of flow runs: Prefect's own, and those set by our flows and the keeper.

    A name refines a type (`TYPE_OF_STATE`). Prefect's events only have the name, as ``prefect.flow-run.<name>``.
    """

    SCHEDULED = "Scheduled"
    LATE = "Late"
    PENDING = "Pending"
    SUBMITTING = "Submitting"
    INFRASTRUCTURE_PENDING = "InfrastructurePending"
    AWAITING_RETRY = "AwaitingRetry"
    AWAITING_CONCURRENCY_SLOT = "AwaitingConcurrencySlot"
    RESUMING = "Resuming"
    RUNNING = "Running"
    RETRYING = "Retrying"
    CANCELLING = "Cancelling"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    IMPORTED = "Imported"
    IMPORTED_IN_PART = "Imported in part"
    """The image is active, but a store that was allowed to fail has failed: Prefect's dashboard counts it as failed."""
    SUPERSEDED = "Superseded"
    """The run had nothing to do, or nothing more."""
    SWEPT = "Swept"
    """Housekeeping is done."""
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    CRASHED = "Crashed"
    CANCELLED = "Cancelled"


TYPE_OF_STATE: Final[Mapping[RunState, str]] = {
    RunState.SCHEDULED: "SCHEDULED",
    RunState.LATE: "SCHEDULED",
    RunState.PENDING: "PENDING",
    RunState.SUBMITTING: "PENDING",
    RunState.INFRASTRUCTURE_PENDING: "PENDING",
    RunState.AWAITING_RETRY: "SCHEDULED",
    RunState.AWAITING_CONCURRENCY_SLOT: "SCHEDULED",
    RunState.RESUMING: "SCHEDULED",
    RunState.RUNNING: "RUNNING",
    RunState.RETRYING: "RUNNING",
    RunState.CANCELLING: "CANCELLING",
    RunState.PAUSED: "PAUSED",
    RunState.SUSPENDED: "PAUSED",
    RunState.COMPLETED: "COMPLETED",
    RunState.IMPORTED: "COMPLETED",
    RunState.IMPORTED_IN_PART: "FAILED",
    RunState.SUPERSEDED: "COMPLETED",
    RunState.SWEPT: "COMPLETED",
    RunState.FAILED: "FAILED",
    RunState.TIMED_OUT: "FAILED",
    RunState.CRASHED: "CRASHED",
    RunState.CANCELLED: "CANCELLED",
}
"""Prefect state type of each name."""

ENDED_TYPES: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
"""State types in which Prefect considers a run ended."""

BEFORE_RUNNING: Final = frozenset(
    {
        RunState.SCHEDULED,
        RunState.LATE,
        RunState.PENDING,
        RunState.SUBMITTING,
        RunState.INFRASTRUCTURE_PENDING,
    }
)
"""States of a run before a process has begun it; a running run never enters one of them directly."""

LEFT_ALONE: Final = (
    frozenset(name for name, type_ in TYPE_OF_STATE.items() if type_ not in ("RUNNING", "CANCELLING")) - BEFORE_RUNNING
)
"""States that a running run may enter and in which no process carries it out: it has ended, or waits to continue."""


def status_of_prefect_state(state_type: str, state_name: str) -> TaskStatus:
    """Return the task status that mirrors a Prefect state.

    Raises:
        UnknownPrefectState: Prefect 3.9 does not have the type.
    """
    try:
        return STATUS_OF_TYPE[state_type]
    except KeyError:
        raise UnknownPrefectState(state_type, state_name) from None


@dataclass(frozen=True, slots=True)
class StoreProgress:
    """The progress of the copy to one store.

    Attributes:
        store: store id.
        phase: ``waiting``, ``uploading``, ``done`` or ``failed``; if the whole import failed also ``taken back``
            for a removed copy, and ``not written``.
        done_bytes, total_bytes: bytes; total 0 while unknown. A retry does not reset them.
        error: reason of a failure, else empty.
        rate: bytes a second since the store's first byte.
        left_s: seconds until it ends at this rate; None while unknown.
        waits: what the copy waits for, since when, and what to do; empty while it does not wait.
    """

    store: str
    phase: str
    done_bytes: int = 0
    total_bytes: int = 0
    error: str = ""
    rate: int = 0
    left_s: int | None = None
    waits: str = ""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """The current progress of an import.

    Attributes:
        phase: name of the step, e.g. ``stage``; for a resumed import the furthest step so far. Digests are computed
            while copies are written: the phase is ``digest`` when only they are missing.
        done_bytes, total_bytes: bytes of this phase; total 0 while unknown.
        rate: bytes a second over the phase.
        stores: one entry per target store.
        left_s: seconds until the phase ends at this rate; None while unknown.
        percent: estimated share of the whole import; never goes back, not even when the import is resumed.
        hashed_bytes, to_hash_bytes: progress of digests computed while copies are written; both 0 when none are.
        hash_rate: bytes a second of these digests.
        waits: what the import waits for, since when, and what to do; empty while it works.
    """

    phase: str
    done_bytes: int = 0
    total_bytes: int = 0
    rate: int = 0
    stores: tuple[StoreProgress, ...] = ()
    left_s: int | None = None
    percent: float = 0.0
    hashed_bytes: int = 0
    to_hash_bytes: int = 0
    hash_rate: int = 0
    waits: str = ""


def wait_text(what: str, since: datetime, remedy: str) -> str:
    """Return the sentence that explains a wait: for what, since when, and what to do.

    Args:
        what: noun after "waits for", e.g. ``a free worker slot``.
        since: UTC.
        remedy: what ends the wait, or who can.
    """
    return f"{WAITS_FOR} {what} since {since:%Y-%m-%d %H:%M:%S} UTC; {remedy}"


def seconds_left(done_bytes: int, total_bytes: int, rate: int) -> int | None:
    """Return the seconds that the rest takes at a rate in bytes a second, rounded up; None if unknown."""
    left_bytes = total_bytes - done_bytes
    if rate <= 0 or total_bytes <= 0 or left_bytes < 0:
        return None
    return -(-left_bytes // rate)


@dataclass(frozen=True, slots=True)
class ImportTask:
    """An import task as the catalogue holds it.

    Attributes:
        id: canonical UUID.
        owner: project id of the caller.
        input: the request as shown to users: no secrets, URI without user info and query.
        parameters: of its flow run, from `ImportParameters.for_flow`.
        result: ``{"image_id": …}`` after success.
        message: progress while it runs, the cause and remedy after a failure.
        flow_run_id: Prefect's id of the run; None until it is dispatched.
        attempt: number of the attempt; increased when an interrupted run is resumed.
        expires_at: UTC; when a finished task may be removed from the list.
    """

    id: str
    image_id: str
    method: str
    status: TaskStatus
    owner: str
    created_at: datetime
    updated_at: datetime
    user_id: str = ""
    request_id: str = ""
    input: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    result: Mapping[str, object] | None = None
    message: str = ""
    progress: TaskProgress | None = None
    flow_run_id: str | None = None
    attempt: int = 1
    expires_at: datetime | None = None
