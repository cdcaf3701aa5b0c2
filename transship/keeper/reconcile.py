"""Repairs what Prefect lost: unfinished imports, and runs that ended without reporting it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from transship.catalog.endings import end_unheld, resume_or_end
from transship.catalog.leases import LeaseState
from transship.catalog.tasks import mark_settled, set_status, unsettled_tasks
from transship.catalog.unfinished_imports import UnfinishedImport, unfinished_import, unfinished_imports
from transship.domain.clock import utc_now
from transship.domain.task import ImportTask, RunState, TaskStatus
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import FlowRunState
from transship.keeper.verdict import Action, TimeLimits, Verdict, judge

STUCK_S: Final = 90.0
"""Well above the slowest start of a flow process seen on a loaded machine (20 s)."""
SETTLE_AFTER_S: Final = 60.0
"""A flow process reports its last state to Prefect after the catalogue; this is the time it has to do so."""

log = structlog.get_logger("transship.keeper")


def reconcile(keeper: Keeper) -> int:
    """Check every unfinished import and repair it if needed; return how many were repaired."""
    with keeper.catalog.statement() as connection:
        # An import with a live lease is left alone, whatever Prefect says.
        found = [each for each in unfinished_imports(connection) if not (each.is_held and each.lease.live)]
    if not found:
        return 0
    runs = keeper.prefect.states(each.task.flow_run_id for each in found if each.task.flow_run_id)
    limits = TimeLimits(keeper.settings.lease.pending_timeout_s, STUCK_S)
    acted = 0
    for each in found:
        run = runs.get(each.task.flow_run_id or "")
        if _judge(each, run, limits).action is Action.NOTHING:
            continue
        with keeper.catalog.statement() as connection:
            # Read it again after asking Prefect: the import may have moved on meanwhile.
            fresh = unfinished_import(connection, each.task.id)
        if fresh is not None and (fresh.task.attempt, fresh.task.flow_run_id) == (
            each.task.attempt,
            each.task.flow_run_id,
        ):
            acted += _act(keeper, fresh.task, _judge(fresh, run, limits), run)
    return acted


def _judge(found: UnfinishedImport, run: FlowRunState | None, limits: TimeLimits) -> Verdict:
    if not found.dispatched and _ended_before(found.lease, run, limits):
        return Verdict(Action.NOTHING)
    return judge(found.task, found.lease, run, limits)


def _act(keeper: Keeper, task: ImportTask, verdict: Verdict, run: FlowRunState | None) -> bool:
    match verdict.action:
        case Action.NOTHING:
            return False
        case Action.RESUME:
            log.warning("import lost its worker", task_id=task.id, image_id=task.image_id, reason=verdict.reason)
            resume_or_end(
                keeper.catalog,
                task.image_id,
                verdict.reason,
                crash_retries=keeper.settings.lease.crash_retries,
                now=utc_now(),
                time_to_live_h=keeper.settings.imports.task_time_to_live_h,
                rerun_ttl_s=keeper.settings.lease.rerun_ttl_s,
            )
        case Action.END:
            end_import(keeper, task.id, verdict.reason)
        case Action.RESCHEDULE if run is not None:
            log.warning("run rescheduled", task_id=task.id, flow_run_id=run.id, reason=verdict.reason)
            keeper.prefect.set_state(run.id, RunState.AWAITING_RETRY, verdict.reason)
        case Action.MIRROR if verdict.status is not None:
            with keeper.catalog.statement() as connection:
                set_status(connection, task.id, verdict.status, utc_now())
    return True


def end_import(keeper: Keeper, task_id: str, reason: str) -> None:
    ended = end_unheld(
        keeper.catalog,
        task_id,
        reason,
        now=utc_now(),
        time_to_live_h=keeper.settings.imports.task_time_to_live_h,
        rerun_ttl_s=keeper.settings.lease.rerun_ttl_s,
    )
    if ended:
        log.warning("import ended", task_id=task_id, reason=reason)


def settle(keeper: Keeper) -> int:
    """Show the end of tasks in Prefect whose flow run did not report it; return how many runs were corrected."""
    now = utc_now()
    with keeper.catalog.statement() as connection:
        tasks = unsettled_tasks(connection, now - timedelta(seconds=SETTLE_AFTER_S))
    if not tasks:
        return 0
    runs = keeper.prefect.states(str(task.flow_run_id) for task in tasks)
    wrong = 0
    for task in tasks:
        run = runs.get(str(task.flow_run_id))
        if run is not None and _contradicts(task, run, (now - task.updated_at).total_seconds()):
            name = RunState.IMPORTED if task.status is TaskStatus.SUCCESS else RunState.FAILED
            keeper.prefect.set_state(run.id, name, task.message)
            wrong += 1
    with keeper.catalog.statement() as connection:
        mark_settled(connection, [task.id for task in tasks])
    return wrong


def _ended_before(lease: LeaseState, run: FlowRunState | None, limits: TimeLimits) -> bool:
    """Return whether a run shows the end of an earlier attempt because Prefect does not know this one yet."""
    waits = lease.state == "queued" and lease.age_s <= limits.pending_timeout_s
    return waits and run is not None and run.type in ("CRASHED", "COMPLETED", "FAILED")


def _contradicts(task: ImportTask, run: FlowRunState, ended_for_s: float) -> bool:
    """Return whether a run's state contradicts its task's end, and it is not a newer attempt."""
    if run.age_s < ended_for_s - 5.0 and not run.final:
        return False
    if task.status is TaskStatus.SUCCESS:
        return run.type != "COMPLETED" and run.name != RunState.IMPORTED_IN_PART
    return not run.final
