"""Whether the process of a flow run still has its import; used by the process itself and by its owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun
from transship.catalog.leases import LEASE_COLUMNS, joined_lease
from transship.catalog.schema import LEASES, TASKS
from transship.domain.task import TaskStatus


class Standing(StrEnum):
    """The relation of a flow run's import to a process."""

    NO_IMPORT = "no import"
    """The run has no import, e.g. housekeeping, or has not requested it yet."""
    HELD = "held"
    """The process holds the lease. It may have expired: the keeper decides when it is lost."""
    ELSEWHERE = "elsewhere"
    """The import waits for a process, or another one holds the lease."""
    ENDED = "ended"


def standings_of(connection: Connection, processes: Mapping[str, str]) -> dict[str, Standing]:
    """Return how the newest import of each flow run is related to the run's process.

    Args:
        processes: the `transship.catalog.leases.process_name` by flow run id.
    """
    newest = _newest_tasks(connection, processes)
    return {run: _standing(newest.get(run), process) for run, process in processes.items()}


def _standing(newest: Row[Any] | None, process: str) -> Standing:
    if newest is None:
        return Standing.NO_IMPORT
    if TaskStatus(newest.status).final:
        return Standing.ENDED
    lease = joined_lease(newest)
    holds = lease.state == "held" and lease.task_id == newest.id and (lease.owner or "").startswith(f"{process} ")
    return Standing.HELD if holds else Standing.ELSEWHERE


def moved_on(catalog: Catalog, flow_run_id: str, begun: Begun | None) -> bool:
    """Return whether the import of a flow run continues without the calling process.

    Then the run belongs to another attempt, or waits for one, and this process must not report anything.

    Args:
        begun: the import of this process; None if it could not begin one.

    Raises:
        CatalogUnavailable: the catalogue does not answer.
    """
    with catalog.statement() as connection:
        newest = _newest_tasks(connection, [flow_run_id]).get(flow_run_id)
    if newest is None:
        return False
    if begun is not None and (newest.id, newest.attempt) != (begun.task.id, begun.task.attempt):
        return True
    if TaskStatus(newest.status).final:
        return False
    lease = joined_lease(newest)
    return begun is None or (lease.state, lease.epoch) != ("held", begun.lease.epoch)


def _newest_tasks(connection: Connection, flow_run_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the newest task of each flow run that has any, with the lease of its image."""
    rows = connection.execute(
        select(TASKS.c.id, TASKS.c.image_id, TASKS.c.flow_run_id, TASKS.c.attempt, TASKS.c.status, *LEASE_COLUMNS)
        .join(LEASES, LEASES.c.image_id == TASKS.c.image_id)
        .where(TASKS.c.flow_run_id.in_(list(flow_run_ids)))
        .order_by(TASKS.c.created_at, TASKS.c.attempt)
    )
    return {row.flow_run_id: row for row in rows}
