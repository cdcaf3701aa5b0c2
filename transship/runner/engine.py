"""Selects the engine for runs: the warm one while it passes its test, else a fresh interpreter for each run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol
from uuid import uuid4

import structlog
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Pending

from transship.domain.errors import WarmEngineUnavailable
from transship.runner.messages import Job, Outcome
from transship.runner.pool import Pool, RunEnd

PROBE: Final = "transship.runner.engine.probe"
DRY_RUN_S: Final = 60.0
"""Longest wait for a new template's first executor and its dry run, on a busy machine."""

log = structlog.get_logger("transship.runner")


@flow(name="probe", retries=0, persist_result=False)
def probe() -> State[Any]:
    """Do nothing, and say so: the dry run with which executors are tried before they are trusted."""
    return Completed(message="probed")


class Carrier(Protocol):
    """Carries out runs.

    Attributes:
        pool: the executors in use; None: a fresh interpreter for each run.
    """

    pool: Pool | None


class Engine:
    """Switches between the warm and the cold engine.

    Args:
        pool: of the warm engine.
        carrier: uses the selected engine.
        on_change: called after each change.
        dry_run_s: time limit for the test of a new template.

    Attributes:
        reason: why the warm engine is not in use; empty if it is.
        fault: why the last requested template is not used; empty if it is, or if none was requested.
    """

    def __init__(
        self,
        pool: Pool,
        carrier: Carrier,
        on_change: Callable[[], None] = lambda: None,
        dry_run_s: float = DRY_RUN_S,
    ) -> None:
        self.reason = self.fault = ""
        self._pool, self._carrier, self._on_change, self._dry_run_s = pool, carrier, on_change, dry_run_s
        self._warming = asyncio.Lock()

    async def warm_up(self) -> None:
        """Start a template, and use the warm engine if the template passes its test; else use the cold engine.

        Calls run one at a time, and the template requested last stays.
        """
        async with self._warming:
            self.fault = ""
            try:
                ready = await self._pool.start()
            except WarmEngineUnavailable as fault:
                self.fault = fault.reason
                if self._pool.template_pid:
                    log.warning("the new template cannot be used; the former one stays in use", reason=fault.reason)
                else:
                    self.cool_down(fault.reason)
                return
            try:
                await self._dry_run()
            except WarmEngineUnavailable as fault:
                self.fault = fault.reason
                self.cool_down(fault.reason)
                return
            self._carrier.pool, self.reason = self._pool, ""
            log.info("using the warm engine", template=ready.pid, imports_s=ready.seconds, executors=self._pool.size)
            self._on_change()

    def cool_down(self, reason: str) -> None:
        """Use the cold engine; running warm runs keep their executors until they end."""
        log.warning("using the cold engine: runs start seconds later", reason=reason)
        self._carrier.pool, self.reason = None, reason
        self._pool.abandon(reason)
        self._on_change()

    async def _dry_run(self) -> None:
        """Carry out a test run in an executor without telling Prefect.

        Raises:
            WarmEngineUnavailable: the run fails, or does not end in time.
        """
        try:
            async with asyncio.timeout(self._dry_run_s):
                end = await self._probe()
        except TimeoutError:
            raise WarmEngineUnavailable(f"a dry run did not end within {self._dry_run_s:g} s") from None
        if (end.outcome, end.state_type) != (Outcome.ENDED, "COMPLETED"):
            raise WarmEngineUnavailable(f"a dry run ended {end.outcome or 'with its process'}: {end.message}")

    async def _probe(self) -> RunEnd:
        run = FlowRun(id=uuid4(), flow_id=uuid4(), name="probe", state=Pending())
        return await self._pool.carry(await self._pool.take(), Job(run.model_dump(mode="json"), PROBE, dry=True))
