"""The runs in warm executors and fresh interpreters, and the killing of those that hang."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event

from transship.catalog.carriers import Standing
from transship.host.processes import signal_group
from transship.runner.cold import Cold, cold_processes
from transship.runner.hung import HangCheck
from transship.runner.pool import Pool

log = structlog.get_logger("transship.runner")


@dataclass(slots=True)
class Held:
    """A run in a warm executor, or about to get one.

    Attributes:
        pool: the executor's pool, even if another engine is in use by now.
        stopping: why it was told to stop; empty if it was not.
        killing: kills it if it does not stop in time.
        hang_check: what is known about its import.
        lost: the import continued elsewhere, so the end of this process must not be reported.
    """

    flow_run: FlowRun
    pool: Pool
    stopping: str = ""
    killing: asyncio.TimerHandle | None = None
    hang_check: HangCheck = field(default_factory=HangCheck)
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """The current runs.

    Attributes:
        held: in warm executors.
        cold: in fresh interpreters.
    """

    held: dict[UUID, Held] = field(default_factory=dict)
    cold: dict[UUID, Cold] = field(default_factory=dict)

    def of(self, flow_run_id: UUID) -> Held | Cold | None:
        """Return a current run; None if it is not one."""
        return self.held.get(flow_run_id) or self.cold.get(flow_run_id)

    def all(self) -> dict[UUID, Held | Cold]:
        """Return all current runs."""
        return {**self.held, **self.cold}

    def processes(self) -> dict[UUID, int]:
        """Return the process of each run that has one."""
        warm = {flow_run_id: held.pool.pid_of(str(flow_run_id)) for flow_run_id, held in self.held.items()}
        return {flow_run_id: pid for flow_run_id, pid in warm.items() if pid} | cold_processes(self.cold)

    def give_up_lost(self, standings: Mapping[UUID, Standing], now: float) -> None:
        """Kill the processes whose imports continued elsewhere, which frees their slots.

        Args:
            standings: the relation of each run's import to its process.
            now: seconds of a monotonic clock.
        """
        processes = self.processes()
        for flow_run_id, standing in standings.items():
            carried = self.of(flow_run_id)
            pid = processes.get(flow_run_id, 0)
            if carried is None or not pid or not carried.hang_check.is_lost(standing, now):
                continue
            log.warning("killing a hung process that lost its import", flow_run_id=str(flow_run_id), pid=pid)
            if isinstance(carried, Held):
                carried.lost = True
                carried.pool.give_up(pid)
            else:
                signal_group(pid, signal.SIGKILL)
                carried.scope.cancel()

    def beat(self) -> None:
        """Send heartbeats to Prefect for all current runs except those that lost their import."""
        for held in self.held.values():
            if held.hang_check.without_since is not None:
                continue
            emit_event(
                event="prefect.flow-run.heartbeat",
                resource={
                    "prefect.resource.id": f"prefect.flow-run.{held.flow_run.id}",
                    "prefect.resource.name": held.flow_run.name or "",
                },
                related=list(_related(held.flow_run)),
            )


def _related(flow_run: FlowRun) -> Iterable[dict[str, str]]:
    yield {"prefect.resource.id": f"prefect.flow.{flow_run.flow_id}", "prefect.resource.role": "flow"}
    if flow_run.deployment_id is not None:
        yield {
            "prefect.resource.id": f"prefect.deployment.{flow_run.deployment_id}",
            "prefect.resource.role": "deployment",
        }
