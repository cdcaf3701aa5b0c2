"""The keeper's pending work and the next deadlines in the catalogue, read in one statement."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, ScalarSelect, exists, func, select, type_coerce
from sqlalchemy.types import Float

from transship.catalog.schema import LEASES, LOCATIONS, NOTIFICATIONS, OUTBOX, STAGED, TASKS
from transship.catalog.types import DbNow, UtcTime
from transship.domain.task import TaskStatus


@dataclass(frozen=True, slots=True)
class Agenda:
    """The keeper's pending work.

    Attributes:
        outbox_in_s: seconds until a row of the outbox is due; None if there is none.
        unfinished: whether any task has not ended.
        queued: whether any import waits for a worker.
        upload_lost_in_s: seconds until the lease of an upload expires unless it is renewed; None if no upload runs.
        ended_s_ago: seconds since the first end of a task whose flow run may still run; None if there is none.
        leftovers: whether the journal has copies or staged files that may have to be removed.
        notifications: whether there are any, sent or not.
    """

    outbox_in_s: float | None
    unfinished: bool
    queued: bool
    upload_lost_in_s: float | None
    ended_s_ago: float | None
    leftovers: bool
    notifications: bool


def agenda(connection: Connection) -> Agenda:
    """Return what the keeper has to do now and later."""
    final = [status for status in TaskStatus if status.final]
    uploads = (LEASES.c.state == "held") & LEASES.c.task_id.is_(None)
    unsettled = TASKS.c.settled.is_(False) & TASKS.c.flow_run_id.is_not(None)
    row = connection.execute(
        select(
            _in_s(select(func.min(OUTBOX.c.due_at)).scalar_subquery()).label("outbox"),
            exists().where(TASKS.c.status.not_in(final)).label("unfinished"),
            exists().where(LEASES.c.state == "queued").label("queued"),
            _in_s(select(func.min(LEASES.c.expires_at)).where(uploads).scalar_subquery()).label("upload"),
            _in_s(select(func.min(TASKS.c.ended_at)).where(unsettled).scalar_subquery()).label("ended"),
            (exists().where(LOCATIONS.c.state != "active") | exists().where(STAGED.c.name.is_not(None))).label(
                "leftovers"
            ),
            exists().where(NOTIFICATIONS.c.id.is_not(None)).label("notifications"),
        )
    ).one()
    return Agenda(
        row.outbox,
        bool(row.unfinished),
        bool(row.queued),
        row.upload,
        None if row.ended is None else -row.ended,
        bool(row.leftovers),
        bool(row.notifications),
    )


def _in_s(moment: ScalarSelect[UtcTime]) -> ColumnElement[float]:
    return type_coerce(moment, Float(53)) - DbNow()
