"""Runs that nobody carries although Prefect says otherwise: given back to their queue, or shown as crashed."""

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
        alone_s: where no other worker is online: a claimed run takes tenths of a second to its first step.
        shared_s: where another one may have claimed it, whose fresh interpreter takes longer.
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
    """Schedule runs of our queues again that are Pending although nobody is about to begin them.

    Such a run was pushed to a dispatcher that died, or was claimed by one.

    Args:
        work_pool, queues: where the runs belong.
        ours: runs that we hold.
        worker: our name.
        grace: how long they may be Pending.

    Returns:
        The runs that were given back.

    Raises:
        httpx.HTTPError, PrefectException: Prefect does not answer; what was given back so far stays so.
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
        # Its process may have begun since we asked.
        state = (await client.read_flow_run(run.id)).state
        if state is None or run.state is None or state.id != run.state.id:
            return False
        await client.set_flow_run_state(run.id, Scheduled(message=MESSAGE), force=True)
    except ObjectNotFound:
        return False
    log.warning("run was Pending and nobody's; given back to its queue", flow_run_id=str(run.id))
    return True


async def _others_are_online(client: PrefectClient, work_pool: str, worker: str) -> bool:
    workers = await client.read_workers_for_work_pool(work_pool)
    return any(one.name != worker and one.status == "ONLINE" for one in workers)


def _age_s(run: FlowRun) -> float:
    if run.state is None:
        return 0.0
    return (datetime.now(UTC) - run.state.timestamp).total_seconds()
