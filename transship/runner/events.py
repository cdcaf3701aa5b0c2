"""The events in Prefect's event stream on which the dispatcher acts."""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter

from transship.domain.task import RunState

STATE_EVENT: Final = "prefect.flow-run."
WAITING: Final = (RunState.SCHEDULED, RunState.AWAITING_RETRY)
"""States in which a run waits for a worker."""

STOPPED: Final = {RunState.CANCELLING: "cancelled", RunState.SUSPENDED: "paused", RunState.PAUSED: "paused"}
"""States set from outside on a running run, and our words for them."""


class Listener(Protocol):
    """Acts on events."""

    def on_open(self) -> None:
        """The stream is open: no events are missed from now on, but earlier ones may have been."""

    def on_waiting(self) -> None:
        """A run waits for a worker."""

    def stop_run(self, flow_run_id: UUID, why: str) -> None:
        """A run must be stopped."""


async def follow(pool_id: UUID, listener: Listener) -> None:
    """Follow the events of the runs of a work pool until the stream ends.

    Raises:
        OSError, websockets.exceptions.WebSocketException, ValueError: the stream broke; events may be missed.
    """
    names = [STATE_EVENT + name for name in (*WAITING, *STOPPED)]
    wanted = EventFilter(
        event=EventNameFilter(name=names), any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool_id}"])
    )
    async with get_events_subscriber(filter=wanted) as stream:
        listener.on_open()
        async for event in stream:
            _act(event, listener)


def _act(event: Event, listener: Listener) -> None:
    name = event.event.removeprefix(STATE_EVENT)
    if name in WAITING:
        listener.on_waiting()
    else:
        listener.stop_run(UUID(event.resource.id.removeprefix(STATE_EVENT)), STOPPED[RunState(name)])
