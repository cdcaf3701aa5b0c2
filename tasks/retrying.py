"""Which failed attempts are retried (the error says so itself), and how often."""

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
    """Return whether Prefect should retry a failed task: only after transient errors.

    Prefect asks only while attempts are left, so this also notes on the import's task that it waits for the next one.
    """
    error = state.result(raise_on_failure=False)
    if not isinstance(error, TransferFailed) or not error.retryable:
        return False
    with suppress(LookupError):  # there is no board outside of an import
        current().board.wait_for(
            "its next attempt", utc_now(), f"it starts automatically. The last one failed: {error}"
        )
    return True


def as_downloads(settings: Settings) -> dict[str, Any]:
    """Return the retry options of a Prefect task for downloads."""
    download = settings.download
    delays = exponential_backoff(download.backoff_s)
    return {"retries": download.retries, "retry_delay_seconds": delays, "retry_jitter_factor": 1.0}


def as_copies(settings: Settings) -> dict[str, Any]:
    """Return the retry options of a Prefect task for copies to stores."""
    return {"retries": settings.imports.store_retries, "retry_delay_seconds": [1, 2, 4], "retry_jitter_factor": 0.5}
