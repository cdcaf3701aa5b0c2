"""Which failed attempts are worth another one (the error says so itself), and how many follow."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from config.settings import Settings
from tasks.session import current
from transship.domain.clock import utc_now
from transship.domain.errors import TransferFailed


def may_pass_next_time(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether Prefect should try a failed task again: only for faults that time may heal.

    Prefect asks only while attempts are left, so the import's task says then that it waits for the next one.
    """
    error = state.result(raise_on_failure=False)
    if not isinstance(error, TransferFailed) or not error.retryable:
        return False
    with suppress(LookupError):  # outside of an import nobody looks
        current().board.wait_for(
            "its next attempt", utc_now(), f"it starts automatically. The last one failed: {error}"
        )
    return True


def as_downloads(settings: Settings) -> dict[str, Any]:
    """Return the options of a Prefect task that is tried again as often as a download may be."""
    download = settings.download
    delays = exponential_backoff(download.backoff_s)
    return {"retries": download.retries, "retry_delay_seconds": delays, "retry_jitter_factor": 1.0}


def as_copies(settings: Settings) -> dict[str, Any]:
    """Return the options of a Prefect task that is tried again as often as a copy to a store may be."""
    return {"retries": settings.imports.store_retries, "retry_delay_seconds": [1, 2, 4], "retry_jitter_factor": 0.5}
