"""The outbox: what must be told to Prefect, written in the transaction that makes it true."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, delete, select, update

from transship.catalog.bell import Ring, ring_keeper
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


_ROWS: Final = select(OUTBOX, seconds_since(OUTBOX.c.created_at).label("age_s"))


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
    ring_keeper(connection, Ring.WORK)


def is_due() -> ColumnElement[bool]:
    """Return the condition that a row's time has come."""
    return OUTBOX.c.due_at <= in_seconds(0)


def due(connection: Connection, limit: int, kinds: Collection[OutboxKind] = tuple(OutboxKind)) -> list[OutboxRow]:
    """Return rows of some kinds whose time has come, oldest first."""
    return _rows(connection, _ROWS.where(is_due(), OUTBOX.c.kind.in_(kinds)).order_by(OUTBOX.c.id).limit(limit))


def rows_with(connection: Connection, ids: Sequence[int]) -> list[OutboxRow]:
    """Return the rows of those ids that there are, in the order of the ids."""
    found = {row.id: row for row in _rows(connection, _ROWS.where(OUTBOX.c.id.in_(ids)))}
    return [found[id_] for id_ in ids if id_ in found]


def _rows(connection: Connection, wanted: Select[Any]) -> list[OutboxRow]:
    return [
        OutboxRow(row.id, OutboxKind(row.kind), row.key, row.task_id, row.payload, row.attempts, float(row.age_s))
        for row in connection.execute(wanted)
    ]


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
