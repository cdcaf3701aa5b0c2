"""How many imports are under way, so that the keeper can let projects take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select, update

from transship.catalog.engine import Catalog
from transship.catalog.outbox import OutboxKind, is_due
from transship.catalog.schema import LEASES, OUTBOX, TASKS
from transship.catalog.types import seconds_since
from transship.domain.task import TaskStatus
from transship.domain.turns import Waiting


@dataclass(frozen=True, slots=True)
class Underway:
    """Imports that were handed to Prefect and have not ended.

    Attributes:
        by_project: their number by project.
        unbegun: how many of them no worker has begun yet.
    """

    by_project: Mapping[str, int]
    unbegun: int


def underway(connection: Connection, forgotten_after_s: float) -> Underway:
    """Return what is under way.

    Args:
        forgotten_after_s: an import that no worker began within this time keeps nobody else waiting: it may be one
            for a host that is gone.
    """
    waiting = select(OUTBOX.c.task_id).where(OUTBOX.c.kind == OutboxKind.DISPATCH, OUTBOX.c.task_id.is_not(None))
    rows = connection.execute(
        select(TASKS.c.owner, LEASES.c.state, seconds_since(LEASES.c.since).label("age_s"))
        .join(LEASES, LEASES.c.task_id == TASKS.c.id)
        .where(TASKS.c.status.in_([TaskStatus.PENDING, TaskStatus.PROCESSING]), TASKS.c.id.not_in(waiting))
    ).all()
    unbegun = sum(1 for row in rows if row.state == "queued" and row.age_s < forgotten_after_s)
    return Underway(Counter(row.owner for row in rows), unbegun)


def imports_wait(connection: Connection) -> bool:
    """Return whether any import is to be handed to Prefect now."""
    return connection.execute(select(OUTBOX.c.id).where(_to_be_told()).limit(1)).first() is not None


def first_in_line(connection: Connection, per_project: int) -> list[Waiting]:
    """Return the imports of each project that were asked for first; so no project hides another one's.

    Args:
        per_project: how many of each.
    """
    project = func.coalesce(TASKS.c.owner, "").label("project")
    place = func.row_number().over(partition_by=project, order_by=OUTBOX.c.id).label("place")
    line = (
        select(OUTBOX.c.id, project, place)
        .outerjoin(TASKS, TASKS.c.id == OUTBOX.c.task_id)
        .where(_to_be_told())
        .subquery()
    )
    rows = connection.execute(select(line.c.id, line.c.project).where(line.c.place <= per_project))
    return [Waiting(row.id, row.project) for row in rows]


def say_why_waiting(catalog: Catalog, turns: Sequence[int], message: str, now: datetime) -> None:
    """Write why tasks wait to be handed to Prefect, on those that do not say so yet.

    Args:
        turns: outbox rows of those that wait no longer.
    """
    waiting = select(OUTBOX.c.task_id).where(_to_be_told(), OUTBOX.c.id.not_in(turns))
    silent = (TASKS.c.id.in_(waiting)) & (TASKS.c.status == TaskStatus.PENDING) & (TASKS.c.message != message)
    with catalog.read() as connection:
        if connection.execute(select(TASKS.c.id).where(silent).limit(1)).first() is None:
            return
    with catalog.write() as connection:
        connection.execute(update(TASKS).where(silent).values(message=message, updated_at=now))


def _to_be_told() -> ColumnElement[bool]:
    return (OUTBOX.c.kind == OutboxKind.DISPATCH) & is_due()
