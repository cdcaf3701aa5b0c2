"""Prefect's event stream, as far as the dispatcher acts on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter

STATE_EVENT: Final = "prefect.flow-run."
WAITING: Final = ("Scheduled", "AwaitingRetry")
"""States in which a run waits for a worker."""

STOPPED: Final = {"Cancelling": "cancelled", "Suspended": "paused", "Paused": "paused"}
"""States that somebody gave to a run that was running, and what we call it."""


async def follow(pool_id: UUID, on_waiting: Callable[[], None], on_stopped: Callable[[UUID, str], None]) -> None:
    """Follow the states of a work pool's runs until the stream ends.

    Args:
        pool_id: of the work pool.
        on_waiting: called when a run begins to wait for a worker.
        on_stopped: called with a run's id, and why it is to stop.

    Raises:
        OSError, websockets.exceptions.WebSocketException, ValueError: the stream broke; what happened since is unknown.
    """
    names = [STATE_EVENT + name for name in (*WAITING, *STOPPED)]
    wanted = EventFilter(
        event=EventNameFilter(name=names), any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool_id}"])
    )
    async with get_events_subscriber(filter=wanted) as stream:
        # What happened before the stream was open.
        on_waiting()
        async for event in stream:
            _act(event, on_waiting, on_stopped)


def _act(event: Event, on_waiting: Callable[[], None], on_stopped: Callable[[UUID, str], None]) -> None:
    name = event.event.removeprefix(STATE_EVENT)
    if name in WAITING:
        on_waiting()
        return
    run_id = event.resource.id.removeprefix(STATE_EVENT)
    on_stopped(UUID(run_id), STOPPED[name])
