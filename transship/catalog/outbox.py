"""The outbox: requests for Prefect, written in the transaction that causes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, case, delete, func, select, update

from transship.catalog.bell import Ring, ring_keeper
from transship.catalog.locks import add_unless_there
from transship.catalog.schema import OUTBOX, TASKS
from transship.catalog.types import in_seconds, seconds_since


class OutboxKind(StrEnum):
    """The request in a row."""

    DISPATCH = "dispatch"
    """Start the task's flow run, or start it again."""
    CANCEL = "cancel"
    """Cancel a flow run whose import has ended."""
    SWEEP = "sweep"
    """Run housekeeping soon."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One request for Prefect.

    Attributes:
        key: idempotency key; sending a request twice has the effect of sending it once.
        attempts: how often it was tried.
        age_s: seconds since it was written.
        project: of the import that is to be started; empty without an identity service, and for the other kinds.
    """

    id: int
    kind: OutboxKind
    key: str
    task_id: str | None
    payload: Mapping[str, Any]
    attempts: int
    age_s: float
    project: str


def post(
    connection: Connection, kind: OutboxKind, key: str, task_id: str | None, payload: Mapping[str, Any] | None = None
) -> None:
    """Add a row unless one with that key is waiting already."""
    values = {
        "kind": kind,
        "key": key,
        "task_id": task_id,
        "payload": dict(payload or {}),
        "attempts": 0,
        "due_at": in_seconds(0),
        "created_at": in_seconds(0),
        "last_error": "",
    }
    add_unless_there(connection, OUTBOX, "key", values)
    ring_keeper(connection, Ring.WORK)


def due(connection: Connection, limit: int, per_project: int | None = None) -> list[OutboxRow]:
    """Return rows whose time has come, oldest first.

    Args:
        limit: most rows of one kind.
        per_project: most imports of one project, so that no project hides another one's; None: ``limit``.
    """
    starts = OUTBOX.c.kind == OutboxKind.DISPATCH
    project = case((starts, func.coalesce(TASKS.c.owner, "")), else_="").label("project")
    place = func.row_number().over(partition_by=[OUTBOX.c.kind, project], order_by=OUTBOX.c.id).label("place")
    most = case((starts, limit if per_project is None else per_project), else_=limit).label("most")
    line = (
        select(OUTBOX, seconds_since(OUTBOX.c.created_at).label("age_s"), project, place, most)
        .outerjoin(TASKS, TASKS.c.id == OUTBOX.c.task_id)
        .where(OUTBOX.c.due_at <= in_seconds(0))
        .subquery()
    )
    rows = connection.execute(select(line).where(line.c.place <= line.c.most).order_by(line.c.id))
    return [
        OutboxRow(
            row.id, OutboxKind(row.kind), row.key, row.task_id, row.payload, row.attempts, float(row.age_s), row.project
        )
        for row in rows
    ]


def done(connection: Connection, row: OutboxRow) -> None:
    """Remove a row that was sent."""
    connection.execute(delete(OUTBOX).where(OUTBOX.c.id == row.id))


def postpone(connection: Connection, row: OutboxRow, wait_s: float, reason: str) -> None:
    """Try a row again after ``wait_s`` seconds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.id == row.id)
        .values(attempts=row.attempts + 1, due_at=in_seconds(wait_s), last_error=reason)
    )
