"""The dispatcher's worker: Prefect's process worker, extended to run flows in warm executors where possible.

The server still enforces pool and queue limits, pauses and priorities: runs come from its list of scheduled runs
and are claimed by proposing Pending, as in the base class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import anyio
import httpx
import structlog
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from transship.domain.errors import WarmEngineUnavailable
from transship.domain.task import ENDED_TYPES
from transship.runner.carried import Carried, Held
from transship.runner.cold import Cold, OwnInterpreter
from transship.runner.endings import Endings, alone
from transship.runner.generation import Executor
from transship.runner.messages import Job, Outcome
from transship.runner.pool import Pool

DEPLOYMENT_FRESH_S: Final = 60.0
"""How long a deployment's entrypoint is cached."""

SETTLED: Final = ENDED_TYPES | {"PAUSED", "SCHEDULED"}
"""State types in which a run may be left; Cancelling is not one of them."""

log = structlog.get_logger("transship.runner")


@dataclass(frozen=True, slots=True)
class _Known:
    deployment: DeploymentResponse
    read_at: float


class WarmWorker(ProcessWorker):
    """A process worker with warm executors. Without a pool it behaves like Prefect's own.

    Args:
        pool: the executors; None: every run gets a fresh interpreter.
        cancel_grace_s: time for a cancelled run to undo its work.
    """

    job_configuration = OwnInterpreter

    @classmethod
    def __dispatch_key__(cls) -> str:
        # Prefect looks up worker classes by type, and must still find its own process worker.
        return "transship-warm"

    def __init__(self, *, pool: Pool | None, cancel_grace_s: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.pool = pool
        self.cancel_grace_s = cancel_grace_s
        self.runs = Carried()
        self.wake = asyncio.Event()
        self.draining = False
        self._polling = asyncio.Lock()
        self._deployments: dict[UUID, _Known] = {}
        self.on_death: Callable[[UUID, int], Awaitable[object]] = _ignore

    @property
    def _endings(self) -> Endings:
        return Endings(self.client, self._propose_crashed_state, self.on_death)

    @property
    def carried(self) -> int:
        """Number of runs that hold a slot, warm or cold."""
        return int(self.limiter.borrowed_tokens)

    @property
    def free_slots(self) -> int:
        """Number of runs that could begin now."""
        return int(self.limiter.available_tokens)

    @property
    def known_ids(self) -> set[UUID]:
        """Runs that have a slot here, or are about to get one."""
        borrowers = self.limiter.statistics().borrowers
        return {
            *self.runs.held,
            *self._submitting_flow_run_ids,
            *(one for one in borrowers if isinstance(one, UUID)),
        }

    # --- taking runs ---

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Fetch scheduled runs if a slot is free; calls run one at a time."""
        async with self._polling:
            if self.draining or self.free_slots == 0:
                return []
            return await super().get_and_submit_flow_runs()

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        new = [entry for entry in flow_run_response if not self._is_carried(entry.flow_run)]
        return await super()._submit_scheduled_flow_runs(new)

    def _is_carried(self, flow_run: FlowRun) -> bool:
        """Return whether a run is held here; the first time it was rescheduled meanwhile, log that."""
        carried = self.runs.of(flow_run.id)
        if carried is None:
            return False
        if not carried.hang_check.offered_again and _scheduled_since(carried.flow_run, flow_run):
            carried.hang_check.offered_again = True
            log.warning("run was offered again; it continues here", flow_run_id=str(flow_run.id))
        return True

    async def _submit_run(self, flow_run: FlowRun) -> None:
        with alone(flow_run):
            entrypoint = await self._warm_entrypoint(flow_run) if self.pool is not None else None
            # Wait before claiming: until an executor is free, another host may take the run.
            pool, executor = self.pool, await self._executor() if entrypoint is not None else None
            if self.draining:
                # It was not claimed, so it waits in its queue.
                if pool is not None and executor is not None:
                    pool.give_back(executor)
                self._let_go(flow_run.id)
            elif pool is None or executor is None or entrypoint is None:
                await self._submit_cold(flow_run)
            else:
                await self._claim(pool, executor, flow_run, entrypoint)

    async def _executor(self) -> Executor | None:
        """Wait for an executor; None if none will become available."""
        try:
            return await self.pool.take() if self.pool is not None else None
        except WarmEngineUnavailable:
            return None

    async def _submit_cold(self, flow_run: FlowRun) -> None:
        """Start a run with Prefect's own method; if that fails to start it, free its slot."""
        try:
            await super()._submit_run(flow_run)
        finally:
            if flow_run.id not in self.runs.cold:
                self._let_go(flow_run.id)
            self.wake.set()

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> ProcessWorkerResult:
        """Carry out a run in a fresh interpreter."""
        with anyio.CancelScope() as scope:
            self.runs.cold[flow_run.id] = Cold(flow_run, scope)
            try:
                return await super().run(flow_run, configuration, task_status)
            finally:
                del self.runs.cold[flow_run.id]
                self.wake.set()
        # The run was lost: another process has it.
        return ProcessWorkerResult(status_code=0, identifier=str(flow_run.id))

    async def _claim(self, pool: Pool, executor: Executor, flow_run: FlowRun, entrypoint: str) -> None:
        self.runs.held[flow_run.id] = Held(flow_run, pool)
        try:
            if await self._propose_pending_state(flow_run):
                await self._carry(pool, executor, flow_run, entrypoint)
            else:
                pool.give_back(executor)
                await self._endings.finish_cancelled(flow_run)
        finally:
            self._let_go(flow_run.id)

    def on_open(self) -> None:
        """Check for changes from before the event stream was open."""
        self.wake.set()

    def on_waiting(self) -> None:
        """Fetch runs at once."""
        self.wake.set()

    def _let_go(self, flow_run_id: UUID) -> None:
        held = self.runs.held.pop(flow_run_id, None)
        if held is not None and held.killing is not None:
            held.killing.cancel()
        self._submitting_flow_run_ids.discard(flow_run_id)
        self._release_limit_slot(flow_run_id)
        # Runs may wait for this slot, or for one of a pool with a limit; so may this run, if it was scheduled again.
        self.wake.set()

    async def entrypoint_of(self, flow_run: FlowRun) -> str | None:
        """Return the entrypoint with which a warm executor can carry out a run; None if it cannot.

        A run whose job variables set an environment, a directory or a command needs a process of its own.
        """
        if flow_run.deployment_id is None or flow_run.job_variables:
            return None
        known = self._deployments.get(flow_run.deployment_id)
        now = asyncio.get_running_loop().time()
        if known is None or now - known.read_at > DEPLOYMENT_FRESH_S:
            deployment = await self.client.read_deployment(flow_run.deployment_id)
            known = self._deployments[flow_run.deployment_id] = _Known(deployment, now)
        if known.deployment.job_variables or known.deployment.pull_steps:
            return None
        entrypoint = known.deployment.entrypoint or ""
        # A file would be loaded again for each run, under another module name.
        return entrypoint if entrypoint and ":" not in entrypoint else None

    async def _warm_entrypoint(self, flow_run: FlowRun) -> str | None:
        try:
            return await self.entrypoint_of(flow_run)
        except (ObjectNotFound, httpx.HTTPError, PrefectException) as error:
            # The base class reports what is wrong with it.
            log.warning("deployment cannot be read", flow_run_id=str(flow_run.id), reason=str(error))
            return None

    # --- carrying them out ---

    async def _carry(self, pool: Pool, executor: Executor, flow_run: FlowRun, entrypoint: str) -> None:
        end = await pool.carry(executor, Job(flow_run.model_dump(mode="json"), entrypoint))
        held = self.runs.held.get(flow_run.id)
        if held is not None and held.lost:
            return
        stopping = held.stopping if held is not None else ""
        if end.outcome is Outcome.ENDED and end.state_type in SETTLED:
            return
        with anyio.CancelScope(shield=True):
            await self._endings.finish(flow_run, end, stopping)

    # --- stopping them ---

    def stop_run(self, flow_run_id: UUID, why: str) -> None:
        """Stop a run that is held here, once; ignore other runs."""
        held = self.runs.held.get(flow_run_id)
        if held is None or held.stopping:
            return
        if not held.pool.cancel(str(flow_run_id)):
            # It has no executor yet, and Prefect will not let it begin.
            return
        held.stopping = why
        log.info("run is stopped", flow_run_id=str(flow_run_id), why=why)
        held.killing = asyncio.get_running_loop().call_later(self.cancel_grace_s, self._kill, held)

    def _kill(self, held: Held) -> None:
        flow_run_id = str(held.flow_run.id)
        if held.pool.kill(flow_run_id):
            log.warning("run did not stop in time and was killed", flow_run_id=flow_run_id)

    async def look_for_stopped(self) -> None:
        """Ask which runs held here must stop or begin again, in case the events were missed.

        Raises:
            httpx.HTTPError, PrefectException: Prefect does not answer.
        """
        carried = self.runs.all()
        if not carried:
            return
        asked = [StateType.CANCELLING, StateType.CANCELLED, StateType.PAUSED, StateType.SCHEDULED]
        runs = await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=list(carried)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=asked)),
            )
        )
        for run in runs:
            if run.state_type is StateType.SCHEDULED:
                # Without a free slot no runs are fetched, so check here.
                self._is_carried(run)
            else:
                self.stop_run(run.id, _why(run.state_type))


async def _ignore(_flow_run_id: UUID, _pid: int) -> None:
    """Ignore the death of an executor."""


def _scheduled_since(taken: FlowRun, now: FlowRun) -> bool:
    """Return whether a run was rescheduled after it was taken; a late response still shows its first schedule."""
    before = taken.state.id if taken.state is not None else None
    return now.state is not None and now.state.id != before


def _why(state_type: StateType | None) -> str:
    return "paused" if state_type is StateType.PAUSED else "cancelled"
