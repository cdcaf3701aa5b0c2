"""Reschedules runs that are Pending in Prefect although no process carries them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled


@dataclass(frozen=True, slots=True)
class GracePeriods:
    """How long a run may be Pending, in seconds.

    Attributes:
        alone_s: if no other worker is online: a claimed run begins within tenths of a second.
        shared_s: if another worker may have claimed it, whose fresh interpreter takes longer.
    """

    alone_s: float = 10.0
    shared_s: float = 90.0


MESSAGE: Final = "Given back to its queue: nobody began it."

log = structlog.get_logger("transship.runner")


async def give_back_orphans(
    client: PrefectClient,
    work_pool: str,
    queues: Collection[str],
    ours: Collection[UUID],
    worker: str,
    grace: GracePeriods = GracePeriods(),
) -> list[UUID]:
    """Reschedule runs of our queues that are Pending although no process is about to begin them.

    Such a run was claimed by a dispatcher that died.

    Args:
        work_pool, queues: which runs to check.
        ours: runs that this dispatcher holds.
        worker: this dispatcher's name.
        grace: how long runs may be Pending.

    Returns:
        The rescheduled runs.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer; runs rescheduled so far stay rescheduled.
    """
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING])),
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool])),
        work_queue_filter=WorkQueueFilter(name=WorkQueueFilterName(any_=list(queues))),
    )
    waiting = [run for run in found if run.id not in ours and _age_s(run) >= grace.alone_s]
    if not waiting:
        return []
    grace_s = grace.shared_s if await _others_are_online(client, work_pool, worker) else grace.alone_s
    return [run.id for run in waiting if _age_s(run) >= grace_s and await _give_back(client, run)]


async def _give_back(client: PrefectClient, run: FlowRun) -> bool:
    try:
        # Its process may have begun meanwhile.
        state = (await client.read_flow_run(run.id)).state
        if state is None or run.state is None or state.id != run.state.id:
            return False
        await client.set_flow_run_state(run.id, Scheduled(message=MESSAGE), force=True)
    except ObjectNotFound:
        return False
    log.warning("Pending run without a worker returned to its queue", flow_run_id=str(run.id))
    return True


async def _others_are_online(client: PrefectClient, work_pool: str, worker: str) -> bool:
    workers = await client.read_workers_for_work_pool(work_pool)
    return any(one.name != worker and one.status == "ONLINE" for one in workers)


def _age_s(run: FlowRun) -> float:
    if run.state is None:
        return 0.0
    return (datetime.now(UTC) - run.state.timestamp).total_seconds()
