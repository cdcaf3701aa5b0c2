"""Which failed attempts are worth another one: the error says so itself."""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from transship.domain.errors import TransferFailed


def may_pass_next_time(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether Prefect should try a failed task again: only for faults that time may heal."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TransferFailed) and error.retryable
