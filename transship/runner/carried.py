"""The runs that warm executors and fresh interpreters carry, and the end of those that hang."""

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
from transship.runner.hung import Grip
from transship.runner.pool import Pool

log = structlog.get_logger("transship.runner")


@dataclass(slots=True)
class Held:
    """A run that a warm executor carries, or is about to.

    Attributes:
        pool: whose executor that is, also when another engine is in force by now.
        stopping: why it was told to stop; empty while it may go on.
        killing: kills it when it does not stop in time.
        grip: what is known of its import.
        lost: the import went on without it, so that there is nothing to say of its end.
    """

    flow_run: FlowRun
    pool: Pool
    stopping: str = ""
    killing: asyncio.TimerHandle | None = None
    grip: Grip = field(default_factory=Grip)
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """What is carried now.

    Attributes:
        held: by warm executors.
        cold: by fresh interpreters.
    """

    held: dict[UUID, Held] = field(default_factory=dict)
    cold: dict[UUID, Cold] = field(default_factory=dict)

    def of(self, flow_run_id: UUID) -> Held | Cold | None:
        """Return a run that is carried; None if it is not."""
        return self.held.get(flow_run_id) or self.cold.get(flow_run_id)

    def all(self) -> dict[UUID, Held | Cold]:
        """Return all of them."""
        return {**self.held, **self.cold}

    def processes(self) -> dict[UUID, int]:
        """Return the process of each run that has one now."""
        warm = {flow_run_id: held.pool.pid_of(str(flow_run_id)) for flow_run_id, held in self.held.items()}
        return {flow_run_id: pid for flow_run_id, pid in warm.items() if pid} | cold_processes(self.cold)

    def give_up_lost(self, standings: Mapping[UUID, Standing], now: float) -> None:
        """Kill the processes whose imports go on without them; their slots are free then.

        Args:
            standings: how the import of each run is related to its process.
            now: seconds of a clock that never goes back.
        """
        processes = self.processes()
        for flow_run_id, standing in standings.items():
            carried = self.of(flow_run_id)
            pid = processes.get(flow_run_id, 0)
            if carried is None or not pid or not carried.grip.is_lost(standing, now):
                continue
            log.warning("process hangs without its import; it is killed", flow_run_id=str(flow_run_id), pid=pid)
            if isinstance(carried, Held):
                carried.lost = True
                carried.pool.give_up(pid)
            else:
                signal_group(pid, signal.SIGKILL)
                carried.scope.cancel()

    def beat(self) -> None:
        """Tell Prefect's automations that the runs which we carry are alive, but for those that lost their import."""
        for held in self.held.values():
            if held.grip.without_since is not None:
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
