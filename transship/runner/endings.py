"""Reports the end of a run to Prefect when its executor could not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx
import structlog
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelled

from transship.runner.messages import Outcome
from transship.runner.pool import RunEnd

TRIES: Final = 5
"""How often a final state is proposed to a server that does not accept it."""

log = structlog.get_logger("transship.runner")


@dataclass(frozen=True, slots=True)
class Endings:
    """Reports to Prefect how runs ended.

    Attributes:
        client: for the Prefect server.
        propose_crashed: proposes the state Crashed with a message.
        on_death: called with run and process of an executor that died.
    """

    client: PrefectClient
    propose_crashed: Callable[[FlowRun, str], Awaitable[object]]
    on_death: Callable[[UUID, int], Awaitable[object]]

    async def finish(self, flow_run: FlowRun, end: RunEnd, stopping: str) -> None:
        """Set the final state of a run that its executor could not set."""
        if end.outcome is None:
            with alone(flow_run):
                await self.on_death(flow_run.id, end.pid)
        run = await self._as_it_is(flow_run)
        state = run.state if run is not None else None
        if state is not None and (state.is_final() or state.is_paused() or state.is_scheduled()):
            return
        if state is not None and (state.is_cancelling() or (stopping == "cancelled" and not state.is_final())):
            await self._set_cancelled(flow_run)
        elif end.outcome is Outcome.ABORTED and state is not None:
            # Prefect or the catalogue did not let the run begin: another process has it.
            log.info("another process has the run", flow_run_id=str(flow_run.id), reason=end.message)
        elif run is not None and run.run_count > flow_run.run_count + 1:
            log.info("run was restarted elsewhere; its end is not reported", flow_run_id=str(flow_run.id))
        else:
            text = f"its process {end.message}" if end.outcome is None else end.message
            await self.propose_crashed(flow_run, text or "its process was told to end")

    async def _as_it_is(self, flow_run: FlowRun) -> FlowRun | None:
        for attempt in range(TRIES):
            try:
                return await self.client.read_flow_run(flow_run.id)
            except ObjectNotFound:
                return None
            except (httpx.HTTPError, PrefectException) as error:
                log.warning("state of a run not read from Prefect", flow_run_id=str(flow_run.id), reason=str(error))
                await asyncio.sleep(0.2 * 2**attempt)
        return None

    async def finish_cancelled(self, flow_run: FlowRun) -> None:
        """Show a run as cancelled that was stopped before it began, so that no worker takes it."""
        try:
            now = await self.client.read_flow_run(flow_run.id)
        except ObjectNotFound:
            return
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("state of a run not read from Prefect", flow_run_id=str(flow_run.id), reason=str(error))
            return
        if now.state is not None and now.state.is_cancelling() and now.run_count == flow_run.run_count:
            await self._set_cancelled(flow_run)

    async def _set_cancelled(self, flow_run: FlowRun) -> None:
        try:
            message = "Cancelled; what it had begun was undone."
            await self.client.set_flow_run_state(flow_run.id, Cancelled(message=message), force=True)
        except ObjectNotFound:
            log.info("cancelled run was deleted", flow_run_id=str(flow_run.id))
        except (httpx.HTTPError, PrefectException) as error:
            # Prefect ends runs that stay Cancelling for too long.
            log.warning("run not shown as cancelled", flow_run_id=str(flow_run.id), reason=str(error))


@contextmanager
def alone(flow_run: FlowRun) -> Iterator[None]:
    """Contain the errors of one run, because runs share a task group."""
    try:
        yield
    except Exception:
        log.exception("run failed in the dispatcher", flow_run_id=str(flow_run.id))
