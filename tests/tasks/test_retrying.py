"""Which failures are retried: only those whose errors say so."""

from __future__ import annotations

import pytest
from prefect import task
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from tasks.retrying import may_pass_next_time
from tasks.session import ImportSession
from transship.domain.errors import (
    ImportCancelled,
    ImportInterrupted,
    LockLost,
    SourceBusy,
    SourceRefused,
    SourceTruncated,
    StagingFull,
    StoreFull,
    StoresFailed,
    StoresUnavailable,
    StoreUnavailable,
)


@task
def some_task() -> None: ...


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (SourceBusy("u", 503, None), True),
        (SourceTruncated("u", 2, 1), True),
        (StoreUnavailable("s", "away"), True),
        (StoresUnavailable(["away"]), True),
        (SourceRefused("u", 404, "no"), False),
        (StagingFull(1, 0), False),
        (StoreFull("s", 1), False),
        (StoresFailed(["full"]), False),
        (ImportCancelled("by hand"), False),
        (ImportInterrupted("a stop"), False),
        (LockLost("i", 1), False),
        (RuntimeError("a defect"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_error_decides(error: Exception, again: bool) -> None:
    run = TaskRun(task_key="some_task", dynamic_key="0")
    assert may_pass_next_time(some_task, run, Failed(data=error)) is again


@pytest.mark.parametrize(
    ("error", "waits"), [(SourceBusy("u", 503, None), True), (SourceRefused("u", 404, "no"), False)]
)
def test_the_import_says_that_it_waits_for_its_next_attempt_and_why(
    session: ImportSession, error: Exception, waits: bool
) -> None:
    session.board.enter("stage")
    may_pass_next_time(some_task, TaskRun(task_key="some_task", dynamic_key="0"), Failed(data=error))
    assert session.board.line.startswith("stage: waits for its next attempt since ") is waits
    assert (str(error) in session.board.line) is waits
