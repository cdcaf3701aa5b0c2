"""Unfinished imports: how many each project has, which ones wait, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from transship.catalog.engine import Catalog
from transship.catalog.leases import LEASE_COLUMNS, LeaseState, joined_lease
from transship.catalog.outbox import OutboxKind
from transship.catalog.schema import IMAGES, LEASES, OUTBOX, STAGED, TASKS
from transship.catalog.tasks import task_of
from transship.catalog.types import in_seconds, seconds_since
from transship.domain.methods import UPLOAD_METHOD
from transship.domain.staged import SOURCE_ROLE
from transship.domain.task import WAITS_FOR, ImportTask, TaskStatus

UNEXPLAINED_S: Final = 15.0
"""Seconds after which a pending import is listed as waiting, whatever its task says."""


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Numbers of imports that were dispatched and have not ended.

    Attributes:
        by_project: number of imports by project.
        unbegun: number of imports that no worker has begun.
    """

    by_project: Mapping[str, int]
    unbegun: int


def count_dispatched(connection: Connection, forgotten_after_s: float, live: Collection[str]) -> Dispatched:
    """Count the dispatched imports, without those that wait for a lost host.

    Args:
        forgotten_after_s: an import that no worker has begun within this time no longer delays others, because its
            queue may be paused.
        live: hosts that are alive.
    """
    waiting = select(OUTBOX.c.task_id).where(OUTBOX.c.kind == OutboxKind.DISPATCH, OUTBOX.c.task_id.is_not(None))
    lost = select(STAGED.c.image_id).where(uploaded_file(), STAGED.c.host.not_in(live))
    # These cannot begin while their host is gone, so they take no slot.
    stranded = (TASKS.c.method == UPLOAD_METHOD) & (LEASES.c.state == "queued") & (TASKS.c.image_id.in_(lost))
    rows = connection.execute(
        select(TASKS.c.owner, LEASES.c.state, seconds_since(LEASES.c.since).label("age_s"))
        .join(LEASES, LEASES.c.task_id == TASKS.c.id)
        .where(TASKS.c.status.in_([TaskStatus.PENDING, TaskStatus.PROCESSING]), TASKS.c.id.not_in(waiting), ~stranded)
    ).all()
    unbegun = sum(1 for row in rows if row.state == "queued" and row.age_s < forgotten_after_s)
    return Dispatched(Counter(row.owner for row in rows), unbegun)


@dataclass(frozen=True, slots=True)
class UnfinishedImport:
    """An import that has not ended.

    Attributes:
        image_name: empty if it has none.
        lease: of its image.
        dispatched: whether Prefect has received the request to start or restart it.
    """

    task: ImportTask
    image_name: str
    lease: LeaseState
    dispatched: bool

    @property
    def is_held(self) -> bool:
        """Whether a process has begun it; its lease may have expired."""
        return self.lease.state == "held" and self.lease.task_id == self.task.id


def unfinished_imports(connection: Connection) -> list[UnfinishedImport]:
    """Return the imports that have not ended, oldest first."""
    return _unfinished(connection, TASKS.c.status.not_in([status for status in TaskStatus if status.final]))


def unfinished_import(connection: Connection, task_id: str) -> UnfinishedImport | None:
    """Return an unfinished import; None when it has ended or does not exist."""
    unfinished = TASKS.c.status.not_in([status for status in TaskStatus if status.final])
    return next(iter(_unfinished(connection, (TASKS.c.id == task_id) & unfinished)), None)


def _unfinished(connection: Connection, wanted: ColumnElement[bool]) -> list[UnfinishedImport]:
    in_outbox = exists().where(OUTBOX.c.kind == OutboxKind.DISPATCH, OUTBOX.c.task_id == TASKS.c.id)
    rows = connection.execute(
        select(TASKS, IMAGES.c.name.label("image_name"), *LEASE_COLUMNS, in_outbox.label("in_outbox"))
        .join(LEASES, LEASES.c.image_id == TASKS.c.image_id)
        .join(IMAGES, IMAGES.c.id == TASKS.c.image_id)
        .where(wanted)
        .order_by(TASKS.c.created_at)
    )
    return [UnfinishedImport(task_of(row), row.image_name or "", joined_lease(row), not row.in_outbox) for row in rows]


@dataclass(frozen=True, slots=True)
class WaitingImport:
    """An import that has not begun, or a running one that waits.

    Attributes:
        since: when the current attempt was requested, or begun; UTC.
        message: of its task.
        attempt: number of the attempt.
        host: the host whose staging holds its uploaded data; empty for other imports.
        dispatched: whether Prefect has received the request to start it.
        dispatch_error: why the last try to dispatch it failed; empty if it was not tried, or succeeded.
    """

    task_id: str
    image_id: str
    since: datetime
    message: str
    attempt: int
    host: str = ""
    dispatched: bool = True
    dispatch_error: str = ""


def pending_imports(connection: Connection, older_than_s: float) -> list[WaitingImport]:
    """Return the imports that have waited for a worker for some seconds, oldest first."""
    holder = select(STAGED.c.host).where(uploaded_file(), STAGED.c.image_id == TASKS.c.image_id).limit(1)
    rows = connection.execute(
        select(TASKS, LEASES.c.since, OUTBOX.c.id.label("outbox_id"), OUTBOX.c.last_error, holder.label("holder"))
        .join(LEASES, LEASES.c.task_id == TASKS.c.id)
        .outerjoin(OUTBOX, (OUTBOX.c.task_id == TASKS.c.id) & (OUTBOX.c.kind == OutboxKind.DISPATCH))
        .where(TASKS.c.status == TaskStatus.PENDING, LEASES.c.state == "queued")
        .where(seconds_since(LEASES.c.since) > older_than_s)
        .order_by(TASKS.c.created_at, TASKS.c.id)
    )
    return [
        WaitingImport(
            row.id,
            row.image_id,
            row.since,
            row.message,
            row.attempt,
            (row.holder or "") if row.method == UPLOAD_METHOD else "",
            row.outbox_id is None,
            row.last_error or "",
        )
        for row in rows
    ]


def waiting_imports(connection: Connection) -> list[WaitingImport]:
    """Return all imports that wait, whether they have begun or not, oldest first."""
    unfinished = [TaskStatus.PENDING, TaskStatus.PROCESSING]
    said = TASKS.c.message.contains(WAITS_FOR, autoescape=True)
    # The keeper explains each wait within seconds, so a longer unexplained wait is listed too.
    unexplained = (TASKS.c.status == TaskStatus.PENDING) & (seconds_since(LEASES.c.since) > UNEXPLAINED_S)
    waits = said | unexplained
    rows = connection.execute(
        select(TASKS, LEASES.c.since)
        .join(LEASES, LEASES.c.task_id == TASKS.c.id)
        .where(TASKS.c.status.in_(unfinished), waits)
        .order_by(TASKS.c.created_at, TASKS.c.id)
    )
    return [WaitingImport(row.id, row.image_id, row.since, row.message, row.attempt) for row in rows]


def running_imports(connection: Connection) -> int:
    """Return how many imports hold a live lease, and so a worker slot."""
    held = (LEASES.c.state == "held") & LEASES.c.task_id.is_not(None) & (LEASES.c.expires_at >= in_seconds(0))
    return int(connection.execute(select(func.count()).select_from(LEASES).where(held)).scalar_one())


def note_waits(catalog: Catalog, explained: Sequence[tuple[WaitingImport, str]], now: datetime) -> None:
    """Write the reasons for waits on the tasks that do not show them yet, unless they have begun meanwhile."""
    new = [(wait, message) for wait, message in explained if wait.message != message]
    if not new:
        return
    with catalog.write() as connection:
        for wait, message in new:
            silent = (TASKS.c.id == wait.task_id) & (TASKS.c.attempt == wait.attempt)
            pending = TASKS.c.status == TaskStatus.PENDING
            connection.execute(update(TASKS).where(silent, pending).values(message=message, updated_at=now))


def uploaded_file() -> ColumnElement[bool]:
    """Return the condition for a complete file of uploaded data."""
    return (STAGED.c.role == SOURCE_ROLE) & (STAGED.c.state == "sealed")
