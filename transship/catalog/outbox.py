"""The outbox: what must be told to Prefect, written in the transaction that makes it true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, select, update

from transship.catalog.locks import add_unless_there
from transship.catalog.schema import OUTBOX
from transship.catalog.types import in_seconds, seconds_since


class OutboxKind(StrEnum):
    """What a row asks for."""

    DISPATCH = "dispatch"
    """Start the task's flow run, or start it again."""
    CANCEL = "cancel"
    """Cancel a flow run whose import is over."""
    SWEEP = "sweep"
    """Run housekeeping soon."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One thing to tell.

    Attributes:
        key: telling it twice under one key has one effect.
        attempts: how often it was tried.
        age_s: seconds since it was written.
    """

    id: int
    kind: OutboxKind
    key: str
    task_id: str | None
    payload: Mapping[str, Any]
    attempts: int
    age_s: float


def post(
    connection: Connection, kind: OutboxKind, key: str, task_id: str | None, payload: Mapping[str, Any] | None = None
) -> None:
    """Add a row, unless one of that key is waiting already."""
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


def due(connection: Connection, limit: int) -> list[OutboxRow]:
    """Return rows whose time has come, oldest first."""
    age = seconds_since(OUTBOX.c.created_at).label("age_s")
    rows = connection.execute(
        select(OUTBOX, age).where(OUTBOX.c.due_at <= in_seconds(0)).order_by(OUTBOX.c.id).limit(limit)
    )
    return [
        OutboxRow(row.id, OutboxKind(row.kind), row.key, row.task_id, row.payload, row.attempts, float(row.age_s))
        for row in rows
    ]


def awaiting_dispatch(connection: Connection) -> frozenset[str]:
    """Return the tasks of which Prefect was not told yet that they are to be started, or started again."""
    rows = connection.execute(select(OUTBOX.c.task_id).where(OUTBOX.c.kind == OutboxKind.DISPATCH))
    return frozenset(row.task_id for row in rows)


def done(connection: Connection, row: OutboxRow) -> None:
    """Remove a row that was told."""
    connection.execute(delete(OUTBOX).where(OUTBOX.c.id == row.id))


def postpone(connection: Connection, row: OutboxRow, wait_s: float, reason: str) -> None:
    """Try a row again after ``wait_s`` seconds."""
    connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.id == row.id)
        .values(attempts=row.attempts + 1, due_at=in_seconds(wait_s), last_error=reason)
    )
