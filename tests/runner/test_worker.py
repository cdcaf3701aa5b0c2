"""The worker's handling of one run, without a server: what can go wrong, and what happens to its slot."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Abort
from prefect.states import Cancelling, Pending, Scheduled
from prefect.workers.process import ProcessJobConfiguration
from structlog.testing import capture_logs

from deployments.pool import base_job_template
from transship.runner.pool import Pool
from transship.runner.recycling import WearLimits
from transship.runner.worker import WarmWorker


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


async def somewhere(_: FlowRun) -> str:
    return "somewhere.flow"


def born() -> FlowRun:
    return FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), state=Pending())


class CancelledServer(AwayServer):
    """A client of a server on which every run is being cancelled.

    Args:
        run_count: how often they have begun.
    """

    def __init__(self, run_count: int) -> None:
        self.given: list[tuple[UUID, str]] = []
        self._run_count = run_count

    async def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        return FlowRun(id=flow_run_id, flow_id=uuid4(), state=Cancelling(), run_count=self._run_count)

    async def set_flow_run_state(self, flow_run_id: UUID, state: State[Any], force: bool) -> None:
        if not force:
            raise Abort("it is being cancelled")
        self.given.append((flow_run_id, state.name or ""))


@pytest.mark.parametrize(("run_count", "given"), [(0, ["Cancelled"]), (1, [])], ids=["nobody's", "begun elsewhere"])
def test_a_run_that_is_cancelled_before_it_can_be_claimed_ends_as_cancelled_if_nobody_began_it(
    run_count: int, given: list[str]
) -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        server = CancelledServer(run_count)
        worker._client = server  # type: ignore[assignment]  # as far as it is asked
        worker.entrypoint_of = somewhere  # type: ignore[method-assign]  # of no deployment
        flow_run = offered(worker)
        await worker._submit_run(flow_run)
        assert server.given == [(flow_run.id, name) for name in given]
        assert (worker.carried, pool.idle_count) == (0, 1)

    tried(test)


@pytest.mark.parametrize(
    ("command", "used"),
    [
        (None, f"{sys.executable} -m prefect.engine"),
        ("nice python -m prefect.engine", "nice python -m prefect.engine"),
    ],
    ids=["none", "chosen for a run"],
)
def test_a_fresh_interpreter_is_our_own_unless_another_is_chosen(command: str | None, used: str) -> None:
    async def configured() -> str | None:
        values = {} if command is None else {"command": command}
        configuration: ProcessJobConfiguration = await WarmWorker.job_configuration.from_template_and_values(
            base_job_template(), values, client=AwayServer()
        )
        configuration.prepare_for_flow_run(born())
        assert configuration._command_configured
        return configuration.command

    assert asyncio.run(configured()) == used


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_run_whose_deployment_cannot_be_read_ends_nothing_else_and_keeps_no_slot(warm: bool) -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        worker.pool = pool if warm else None
        with capture_logs() as logged:
            await worker._submit_run(offered(worker))
        assert "run failed in the dispatcher" in {entry["event"] for entry in logged}
        assert (worker.carried, worker.known_ids, pool.idle_count) == (0, set(), 1)

    tried(test)


def test_a_stop_leaves_unclaimed_runs_to_others_and_starts_none() -> None:
    async def test(worker: WarmWorker, pool: Pool) -> None:
        taken = await pool.take()
        flow_run = offered(worker)
        worker.entrypoint_of = somewhere  # type: ignore[method-assign]  # the server is away
        waiting = asyncio.create_task(worker._submit_run(flow_run))
        while not pool._idle.waiting_count:
            await asyncio.sleep(0)
        worker.draining = True
        pool.refuse("the runner is stopping")
        await waiting
        assert (worker.carried, worker.known_ids, worker.runs.cold) == (0, set(), {})
        pool.give_back(taken)

    tried(test)
