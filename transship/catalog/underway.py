"""How many imports are under way, so that the keeper can let projects take turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from transship.catalog.engine import Catalog
from transship.catalog.outbox import OutboxKind
from transship.catalog.schema import LEASES, OUTBOX, TASKS
from transship.catalog.types import seconds_since
from transship.domain.task import TaskStatus


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


def projects_of(connection: Connection, task_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the project of each task that there is."""
    rows = connection.execute(select(TASKS.c.id, TASKS.c.owner).where(TASKS.c.id.in_(task_ids)))
    return {row.id: row.owner for row in rows}


def say_why_waiting(catalog: Catalog, task_ids: Sequence[str], message: str, now: datetime) -> None:
    """Write why tasks wait, on those that wait and do not say so yet."""
    silent = (TASKS.c.id.in_(task_ids)) & (TASKS.c.status == TaskStatus.PENDING) & (TASKS.c.message != message)
    with catalog.read() as connection:
        if connection.execute(select(TASKS.c.id).where(silent).limit(1)).first() is None:
            return
    with catalog.write() as connection:
        connection.execute(update(TASKS).where(silent).values(message=message, updated_at=now))
