"""Sends the outbox to Prefect: imports to start or to cancel, and sweeps."""

from __future__ import annotations

from typing import Final

import structlog

from transship.catalog.journal import staged_upload
from transship.catalog.outbox import OutboxKind, OutboxRow, done, postpone
from transship.catalog.tasks import set_flow_run
from transship.catalog.unfinished_imports import unfinished_import
from transship.domain.errors import (
    DispatchFailed,
    PrefectAway,
    PrefectRefused,
    UploadIncomplete,
)
from transship.domain.methods import ImportMethod
from transship.domain.task import ImportTask, RunState
from transship.keeper.housekeeping import order_sweeps
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import WantedRun
from transship.keeper.reconcile import end_import
from transship.keeper.turns import BATCH_ROWS, DEFAULT_QUEUE, host_queue, rows_in_turn

REFUSAL_RETRY_S: Final = 120.0
"""How long to retry after refusals that an operator can fix (no deployment yet, wrong password)."""
FIXABLE: Final = frozenset({401, 403, 404})

log = structlog.get_logger("transship.keeper")


def send_outbox(keeper: Keeper) -> int:
    """Send the outbox rows whose turn it is to Prefect; return how many were sent."""
    rows = rows_in_turn(keeper)[:BATCH_ROWS]
    sent = 0
    for row in rows:
        try:
            _send(keeper, row)
        except PrefectAway as away:
            wait_s = min(30.0, 0.2 * 2 ** min(row.attempts, 10))
            _postpone(keeper, row, wait_s, str(away))
            log.warning("Prefect away, will retry", key=row.key, wait_s=wait_s, reason=str(away))
        except PrefectRefused as refused:
            _refused(keeper, row, refused)
        else:
            sent += 1
    return sent


def _send(keeper: Keeper, row: OutboxRow) -> None:
    match row.kind:
        case OutboxKind.DISPATCH:
            _dispatch(keeper, row)
        case OutboxKind.CANCEL:
            _cancel(keeper, row)
            _done(keeper, row)
        case OutboxKind.SWEEP:
            order_sweeps(keeper)
            _done(keeper, row)


def _dispatch(keeper: Keeper, row: OutboxRow) -> None:
    with keeper.catalog.statement() as connection:
        found = unfinished_import(connection, str(row.task_id))
    # A worker has begun the import, so Prefect has the run: a killed keeper only missed marking this row as done.
    if found is None or found.is_held or found.task.attempt != row.payload["attempt"]:
        _done(keeper, row)
        return
    task = found.task
    run_id = _start_again(keeper, task) or _create_run(keeper, task, found.image_name, row.key)
    with keeper.catalog.write() as connection:
        set_flow_run(connection, task.id, run_id)
        done(connection, row)
    log.info("import dispatched", task_id=task.id, image_id=task.image_id, flow_run_id=run_id, attempt=task.attempt)


def _start_again(keeper: Keeper, task: ImportTask) -> str | None:
    """Reschedule the task's run; return its id, or None when Prefect has no such run."""
    if task.flow_run_id is None:
        return None
    try:
        keeper.prefect.set_state(task.flow_run_id, RunState.AWAITING_RETRY, task.message)
    except PrefectRefused as refused:
        if refused.status == 404:
            return None
        raise
    return task.flow_run_id


def _create_run(keeper: Keeper, task: ImportTask, image_name: str, key: str) -> str:
    wanted = WantedRun(
        str(task.method),
        f"{task.method} {image_name} {task.image_id[:8]}".replace("  ", " "),
        task.parameters,
        key,
        queue_of(keeper, task),
        (f"image:{task.image_id}",),
    )
    return keeper.prefect.schedule(wanted)


def queue_of(keeper: Keeper, task: ImportTask) -> str:
    """Return the work queue of a task's run: uploaded data are imported on the host that holds them."""
    if not ImportMethod(task.method).facts.uploaded:
        return DEFAULT_QUEUE
    try:
        with keeper.catalog.statement() as connection:
            return host_queue(staged_upload(connection, task.image_id).host)
    except UploadIncomplete:
        # Any worker can report the problem on the task.
        return DEFAULT_QUEUE


def _cancel(keeper: Keeper, row: OutboxRow) -> None:
    run_id = str(row.payload["flow_run_id"])
    run = keeper.prefect.states([run_id]).get(run_id)
    if run is not None and not run.final:
        waits = run.type in ("SCHEDULED", "PAUSED")
        name = RunState.CANCELLED if waits else RunState.CANCELLING
        # Not forced: the run may have ended meanwhile, and would then stay Cancelling.
        keeper.prefect.ask_state(run_id, name, "the image was deleted")


def _refused(keeper: Keeper, row: OutboxRow, refused: PrefectRefused) -> None:
    keeper.prefect.forget_deployments()
    if refused.status in FIXABLE and row.age_s < REFUSAL_RETRY_S:
        _postpone(keeper, row, 2.0, str(refused))
        log.warning("Prefect refused, will retry", key=row.key, reason=str(refused))
        return
    log.error("Prefect refused", key=row.key, reason=str(refused))
    if row.kind is OutboxKind.DISPATCH and row.task_id is not None:
        end_import(keeper, row.task_id, str(DispatchFailed(str(refused))))
    _done(keeper, row)


def _done(keeper: Keeper, row: OutboxRow) -> None:
    with keeper.catalog.statement() as connection:
        done(connection, row)


def _postpone(keeper: Keeper, row: OutboxRow, wait_s: float, reason: str) -> None:
    with keeper.catalog.statement() as connection:
        postpone(connection, row, wait_s, reason)
