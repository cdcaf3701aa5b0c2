"""The worker's way with one run, without a server: what goes wrong with it, and what becomes of its slot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending, Scheduled
from structlog.testing import capture_logs

from transship.domain.push import Refused
from transship.runner.pool import Pool
from transship.runner.recycling import WearLimits
from transship.runner.reservations import Reservations, WarmSlot
from transship.runner.worker import Limits, WarmWorker

OPEN = Limits(pool_paused=False, pool_limited=False, any_limited=False, open_queues=frozenset({"default"}))


class AwayServer:
    """A client of a server that does not answer."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def refuse(*_: object, **__: object) -> None:
            raise httpx.ConnectError("refused")

        return refuse


def tried(test: Callable[[WarmWorker, Pool], Awaitable[None]]) -> None:
    """Run a test with a worker of a pool with one executor; all of it is ended then."""

    async def run() -> None:
        limits = WearLimits(50, 1 << 40)
        pool = Pool(1, limits, ["well"], os.environ, template="tests.fakes.trial_template")
        worker = WarmWorker(pool=pool, cancel_grace_s=30.0, name="here", work_pool_name="trial", limit=1)
        worker._client = AwayServer()  # type: ignore[assignment]  # its calls fail all the same
        worker._limiter = anyio.CapacityLimiter(1)
        worker.limits = OPEN
        try:
            async with asyncio.timeout(60), anyio.create_task_group() as group:
                worker._runs_task_group = group
                await pool.start()
                pool.give_back(await pool.take())
                await test(worker, pool)
        finally:
            pool.kill_all()
            await pool.close()

    asyncio.run(run())


def offered(worker: WarmWorker) -> FlowRun:
    """Return a run for which the worker has taken a slot, as it does before it submits it."""
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), state=Scheduled())
    worker.limiter.acquire_on_behalf_of_nowait(flow_run.id)
    worker._submitting_flow_run_ids.add(flow_run.id)
    return flow_run


def born() -> FlowRun:
    return FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), state=Pending())


async def reserved(worker: WarmWorker) -> WarmSlot:
    slot = await Reservations(worker).try_reserve("default")
    assert not isinstance(slot, Refused), slot.reason
    return slot


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_run_whose_deployment_cannot_be_read_ends_nothing_else_and_keeps_no_slot(warm: bool) -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        worker.pool = pool if warm else None
        with capture_logs() as logged:
            await worker._submit_run(offered(worker))
        assert "a run was given up" in {entry["event"] for entry in logged}
        assert (worker.carried, worker.known_ids, pool.idle_count) == (0, set(), 1)

    tried(test)


def test_a_stop_leaves_unclaimed_runs_to_others_and_starts_none() -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        taken = await pool.take()
        flow_run = offered(worker)
        known = worker._deployments

        async def entrypoint_of(_: FlowRun) -> str:
            return "somewhere.flow"

        worker.entrypoint_of = entrypoint_of  # type: ignore[method-assign]  # the server is away
        waiting = asyncio.create_task(worker._submit_run(flow_run))
        while not pool._waiting:
            await asyncio.sleep(0)
        worker.draining = True
        pool.refuse("the runner is stopping")
        await waiting
        assert (worker.carried, worker.known_ids, worker.cold, known) == (0, set(), set(), {})
        pool.give_back(taken)

    tried(test)


def test_a_pushed_run_that_is_no_flow_run_gives_its_slot_back() -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        assert not (await reserved(worker)).run({"id": "no uuid"})
        assert (worker.carried, pool.idle_count) == (0, 1)

    tried(test)


def test_a_pushed_run_that_is_known_already_is_not_carried_twice() -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        flow_run = born()
        worker._submitting_flow_run_ids.add(flow_run.id)
        assert not (await reserved(worker)).run(flow_run.model_dump(mode="json"))
        assert (worker.carried, pool.idle_count, worker.held) == (0, 1, {})

    tried(test)


def test_a_pushed_run_is_not_taken_by_a_worker_that_has_stopped() -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        slot = await reserved(worker)
        worker._runs_task_group = None
        assert not slot.run(born().model_dump(mode="json"))
        assert (worker.carried, pool.idle_count) == (0, 1)

    tried(test)
