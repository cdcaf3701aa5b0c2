"""Slots for runs that the keeper of this machine pushes (`push`): only where nobody else would wait for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError

from transship.domain.push import Refused
from transship.runner.generation import Executor
from transship.runner.pool import Pool
from transship.runner.worker import WarmWorker

log = structlog.get_logger("transship.runner.push")


@dataclass(frozen=True, slots=True)
class WarmSlot:
    """An idle executor that is kept for one run."""

    worker: WarmWorker
    pool: Pool
    executor: Executor
    reservation: UUID

    def run(self, flow_run: Mapping[str, Any]) -> bool:
        """Carry a run that was born Pending for this slot; returns at once whether it is taken."""
        try:
            parsed = FlowRun.model_validate(flow_run)
        except ValidationError as error:
            log.warning("pushed run is malformed", problems=error.error_count())
            self.free()
            return False
        return self.worker.begin_reserved(self.pool, self.executor, self.reservation, parsed)

    def free(self) -> None:
        """Give the slot back."""
        self.pool.give_back(self.executor)
        self.worker.free_slot(self.reservation)


@dataclass(frozen=True, slots=True)
class Reservations:
    """Gives out the slots of a worker."""

    worker: WarmWorker

    async def try_reserve(self, queue: str) -> WarmSlot | Refused:
        """Keep an executor for a run of a work queue, or say why not.

        What the server alone can judge (limits, pauses, whose turn it is) is not judged here: the run is
        scheduled then, and the server gives it out.
        """
        pool = self.worker.pool
        if pool is None or self.worker.draining:
            return Refused("no warm executors are in force")
        if self.worker.starved:
            return Refused("scheduled runs wait")
        if reason := await self.worker.why_not_pushed(queue):
            return Refused(reason)
        executor = pool.take_idle()
        if executor is None:
            return Refused("no executor is idle")
        reservation = self.worker.hold_slot()
        if reservation is None:
            pool.give_back(executor)
            return Refused("no slot is free")
        return WarmSlot(self.worker, pool, executor, reservation)
