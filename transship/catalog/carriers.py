"""Whether the process that carries a flow run still has its import: for the process itself, and for who owns it."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection

from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun
from transship.catalog.leases import lease_of
from transship.catalog.tasks import latest_task_of_run
from transship.domain.errors import LockLost


class Standing(StrEnum):
    """How the import of a flow run is related to a process."""

    NO_IMPORT = "no import"
    """The run has none, e.g. housekeeping, or has not asked for it yet."""
    HELD = "held"
    """The process holds the lease. It may have expired: the keeper decides when it is lost."""
    ELSEWHERE = "elsewhere"
    """The import waits for a process to begin it, or another one holds the lease."""
    ENDED = "ended"


def standing_of(connection: Connection, flow_run_id: str, process: str) -> Standing:
    """Return how the newest import of a flow run is related to a process.

    Args:
        process: its `transship.catalog.leases.process_name`.
    """
    task = latest_task_of_run(connection, flow_run_id)
    if task is None:
        return Standing.NO_IMPORT
    if task.status.final:
        return Standing.ENDED
    try:
        lease = lease_of(connection, task.image_id)
    except LockLost:
        return Standing.ENDED
    holds = lease.state == "held" and lease.task_id == task.id and (lease.owner or "").startswith(f"{process} ")
    return Standing.HELD if holds else Standing.ELSEWHERE


def moved_on(catalog: Catalog, flow_run_id: str, begun: Begun | None) -> bool:
    """Return whether the import of a flow run goes on without the process that asks.

    Then the run is another attempt's, or waits for one: whatever this process has to say is about the past.

    Args:
        begun: what this process carried; None when it was not let begin.

    Raises:
        CatalogUnavailable: nobody knows.
    """
    with catalog.read() as connection:
        newest = latest_task_of_run(connection, flow_run_id)
        if newest is None:
            return False
        if begun is not None and (newest.id, newest.attempt) != (begun.task.id, begun.task.attempt):
            return True
        if newest.status.final:
            return False
        try:
            lease = lease_of(connection, newest.image_id)
        except LockLost:
            return False
        return begun is None or (lease.state, lease.epoch) != ("held", begun.lease.epoch)
