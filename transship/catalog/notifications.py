"""Notifications waiting to be sent, written in the transaction that they report.

A transaction writes its notifications in one statement at its end, except types that no configured sink takes. The
keeper sends each row to all its sinks; each sink has a column for whether the row was sent. Writers of one image are
serialized, so the numbers of its rows are in order; rows of different images have no defined order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import Column, Connection, and_, delete, func, insert, select, true, update

from transship.catalog.locks import add_or_replace
from transship.catalog.schema import NOTIFICATIONS, SINKS, TASKS
from transship.catalog.types import in_seconds, seconds_since
from transship.domain.image import Image, Member
from transship.domain.notification import (
    EventType,
    Notification,
    Priority,
    SinkName,
    deleted_image_payload,
    image_payload,
    internal_upload_failure,
    member_payload,
    store_payload,
    task_payload,
)
from transship.domain.task import ImportTask

_SENT: Final[Mapping[SinkName, Column[bool]]] = {
    SinkName.BUS: NOTIFICATIONS.c.sent_to_bus,
    SinkName.LOG: NOTIFICATIONS.c.sent_to_log,
    SinkName.PREFECT: NOTIFICATIONS.c.sent_to_prefect,
}

FORGOTTEN_AT_ONCE: Final = 1000
_ANNOUNCED: Final = "transship announced"


# --- writers -----------------------------------------------------------------------------------


def is_wanted(connection: Connection, *event_types: EventType) -> bool:
    """Return whether any sink takes notifications of any of these types; if not, they need not be announced."""
    wants: Callable[[str], bool] = connection.get_execution_options()["transship_wants"]
    return any(wants(event_type) for event_type in event_types)


def announce_image(connection: Connection, event_type: EventType, image: Image) -> None:
    """Announce an event of an image, in the transaction that wrote it.

    Args:
        image: as this transaction leaves it.
    """
    _add(connection, event_type, image_payload(image), image.id, task_id=image.import_task)


def announce_deleted(connection: Connection, image: Image, now: datetime) -> None:
    """Announce that an image was deleted.

    Args:
        image: before the deletion.
    """
    _add(connection, EventType.IMAGE_DELETE, deleted_image_payload(image, now), image.id)


def announce_member(
    connection: Connection, event_type: EventType, member: Member, deleted_at: datetime | None = None
) -> None:
    """Announce an event of a project that an image is shared with.

    Args:
        deleted_at: when it was removed; None if it was not.
    """
    _add(connection, event_type, member_payload(member, deleted_at), member.image_id)


def announce_store(connection: Connection, event_type: EventType, image: Image, store: str) -> None:
    """Announce that an image's data are about to be written to a store, or have been.

    Args:
        image: as this transaction leaves it.
    """
    _add(connection, event_type, store_payload(image, store), image.id, task_id=image.import_task, store=store)


def announce_failed_store(
    connection: Connection, image_id: str, task_id: str | None, store: str, reason: str, notice: str = ""
) -> None:
    """Announce that an image's data could not be written to a store.

    Args:
        notice: the whole text; empty: the default one.
    """
    text = notice or internal_upload_failure(image_id, reason)
    _add(connection, EventType.IMAGE_UPLOAD, text, image_id, task_id=task_id, store=store, priority=Priority.ERROR)


def announce_task(connection: Connection, event_type: EventType, task: ImportTask) -> None:
    """Announce an event of a task.

    Args:
        task: as this transaction leaves it.
    """
    _add(connection, event_type, task_payload(task, datetime.now(UTC)), task.image_id, task_id=task.id)


def _add(
    connection: Connection,
    event_type: EventType,
    payload: Mapping[str, object] | str,
    image_id: str,
    *,
    task_id: str | None = None,
    store: str | None = None,
    priority: Priority = Priority.INFO,
) -> None:
    if not is_wanted(connection, event_type):
        return
    announced(connection).append(
        {
            "message_id": str(uuid4()),
            "event_type": event_type,
            "priority": priority,
            "payload": payload,
            "image_id": image_id,
            "task_id": task_id,
            "store": store,
        }
    )


def announced(connection: Connection) -> list[dict[str, object]]:
    """Return the notifications of a transaction so far."""
    pending: list[dict[str, object]] = connection.info.setdefault(_ANNOUNCED, [])
    return pending


def write_announced(connection: Connection) -> None:
    """Write the notifications of a transaction; `transship.catalog.engine.Catalog.write` calls it before the commit."""
    pending = announced(connection)
    if pending:
        unsent = {column.name: False for column in _SENT.values()}
        connection.execute(insert(NOTIFICATIONS).values(occurred_at=in_seconds(0), **unsent), pending)
        pending.clear()


# --- the keeper --------------------------------------------------------------------------------


def waiting(connection: Connection, sink: SinkName, limit: int) -> list[Notification]:
    """Return the next notifications for a sink, in order."""
    rows = connection.execute(
        select(NOTIFICATIONS, TASKS.c.flow_run_id)
        .outerjoin(TASKS, TASKS.c.id == NOTIFICATIONS.c.task_id)
        .where(_SENT[sink].is_(False))
        .order_by(NOTIFICATIONS.c.id)
        .limit(limit)
    )
    return [
        Notification(
            number=row.id,
            message_id=row.message_id,
            event_type=row.event_type,
            priority=Priority(row.priority),
            payload=row.payload,
            image_id=row.image_id,
            occurred_at=row.occurred_at,
            task_id=row.task_id,
            flow_run_id=row.flow_run_id,
            store=row.store,
        )
        for row in rows
    ]


def mark_sent(connection: Connection, sink: SinkName, numbers: Sequence[int]) -> None:
    """Record that notifications were sent to a sink."""
    # In a fixed order, because couriers of several sinks update the same rows at the same time.
    if connection.dialect.name == "postgresql":
        rows = select(NOTIFICATIONS.c.id).where(NOTIFICATIONS.c.id.in_(numbers))
        connection.execute(rows.order_by(NOTIFICATIONS.c.id).with_for_update())
    connection.execute(update(NOTIFICATIONS).where(NOTIFICATIONS.c.id.in_(numbers)).values({_SENT[sink].name: True}))


def forget_sent(connection: Connection, sinks: Sequence[SinkName]) -> int:
    """Remove notifications that were sent to all these sinks, and return their number; without sinks remove all.

    At most `FORGOTTEN_AT_ONCE` are removed.
    """
    everywhere = and_(true(), *(_SENT[sink].is_(True) for sink in sinks))
    locked = select(NOTIFICATIONS.c.id).where(everywhere).order_by(NOTIFICATIONS.c.id).with_for_update()
    numbers = list(connection.execute(locked.limit(FORGOTTEN_AT_ONCE)).scalars())
    if not numbers:
        return 0
    return connection.execute(delete(NOTIFICATIONS).where(NOTIFICATIONS.c.id.in_(numbers))).rowcount


def drop_beyond(connection: Connection, sink: SinkName, limit: int) -> int:
    """Drop the oldest notifications for a sink if more than ``limit`` wait; return how many were dropped."""
    excess = _waiting_count(connection, sink) - limit
    if excess <= 0:
        return 0
    oldest = select(NOTIFICATIONS.c.id).where(_SENT[sink].is_(False)).order_by(NOTIFICATIONS.c.id).limit(excess)
    numbers = list(connection.execute(oldest.with_for_update()).scalars())
    connection.execute(update(NOTIFICATIONS).where(NOTIFICATIONS.c.id.in_(numbers)).values({_SENT[sink].name: True}))
    _note(connection, sink, dropped=len(numbers))
    return len(numbers)


def note_fault(connection: Connection, sink: SinkName, reason: str) -> None:
    """Record why nothing can be sent to a sink now; an empty reason means that it works again."""
    _note(connection, sink, reason=reason)


def _note(connection: Connection, sink: SinkName, *, reason: str | None = None, dropped: int = 0) -> None:
    found = connection.execute(select(SINKS).where(SINKS.c.name == sink).with_for_update()).first()
    values = {
        "name": sink,
        "reason": reason if reason is not None else "" if found is None else found.reason,
        "since": in_seconds(0),
        "dropped": dropped + (0 if found is None else found.dropped),
    }
    add_or_replace(connection, SINKS, "name", values)


# --- people ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog of one sink.

    Attributes:
        waiting: number of notifications.
        oldest_s: age of the oldest, in seconds; 0 without any.
        reason: why nothing can be sent now; empty if it works.
        dropped: total number of notifications dropped because too many waited.
    """

    sink: SinkName
    waiting: int
    oldest_s: float
    reason: str
    dropped: int

    @property
    def text(self) -> str:
        """The backlog in one line, for display."""
        words = [f"{self.waiting} waiting"]
        if self.waiting:
            words.append(f"the oldest for {self.oldest_s:.0f} s")
        if self.reason:
            words.append(self.reason)
        if self.dropped:
            words.append(f"{self.dropped} given up in all, because too many waited")
        return ", ".join(words)


def backlog(connection: Connection, sinks: Sequence[SinkName]) -> list[Backlog]:
    """Return the backlog of each of these sinks."""
    noted = {row.name: row for row in connection.execute(select(SINKS))}
    return [
        Backlog(
            sink,
            _waiting_count(connection, sink),
            _oldest_s(connection, sink),
            noted[sink].reason if sink in noted else "",
            noted[sink].dropped if sink in noted else 0,
        )
        for sink in sinks
    ]


def _waiting_count(connection: Connection, sink: SinkName) -> int:
    counted = select(func.count()).select_from(NOTIFICATIONS).where(_SENT[sink].is_(False))
    return int(connection.execute(counted).scalar_one())


def _oldest_s(connection: Connection, sink: SinkName) -> float:
    age = seconds_since(NOTIFICATIONS.c.occurred_at)
    oldest = select(age).where(_SENT[sink].is_(False)).order_by(NOTIFICATIONS.c.id).limit(1)
    return max(0.0, float(connection.execute(oldest).scalar_one_or_none() or 0.0))
