"""Lists the import tasks of all images, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, literal, select, true, tuple_

from transship.catalog.schema import TASKS
from transship.catalog.tasks import task_of
from transship.catalog.types import UtcTime
from transship.domain.errors import BadRequest
from transship.domain.task import ImportTask, TaskStatus

_NEVER: Final = datetime(9999, 12, 30, tzinfo=UTC)


class TaskSortKey(StrEnum):
    """Attributes that the list can be sorted by."""

    CREATED_AT = "created_at"
    EXPIRES_AT = "expires_at"
    ID = "id"
    OWNER = "owner"
    STATUS = "status"
    UPDATED_AT = "updated_at"


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks, in which order, and how many.

    Attributes:
        status: only tasks with this status; None for all.
        sort_key: the first key; the second is the id.
        limit: maximum number of tasks.
        marker: id of the last task of the previous page; empty for the first page.
        owner: only tasks of this project; None for all.
        methods: only tasks of these; None for all.
        equal: exact values by `EQUATABLE` column.
    """

    status: TaskStatus | None
    sort_key: TaskSortKey
    descending: bool
    limit: int
    marker: str
    owner: str | None = None
    methods: tuple[str, ...] | None = None
    equal: Mapping[str, str] = field(default_factory=dict)


EQUATABLE: Final = ("id", "owner", "image_id", "request_id", "user_id")
"""Columns by which the list can be filtered."""


def find_tasks(connection: Connection, query: TaskQuery, now: datetime) -> list[ImportTask]:
    """Return one page of the tasks that have not expired, including those of deleted images.

    Raises:
        BadRequest: the marker is not a task.
    """
    conditions = [TASKS.c.expires_at.is_(None) | (TASKS.c.expires_at > now), _owned(query)]
    conditions += [TASKS.c[name] == value for name, value in query.equal.items()]
    if query.status is not None:
        conditions.append(TASKS.c.status == query.status)
    levels = (_sortable(query.sort_key), TASKS.c.id)
    if query.methods is not None:
        conditions.append(TASKS.c.method.in_(query.methods))
    if query.marker:
        conditions.append(_after(connection, query, levels))
    order = [level.desc() if query.descending else level for level in levels]
    rows = connection.execute(select(TASKS).where(*conditions).order_by(*order).limit(query.limit))
    return [task_of(row) for row in rows]


def _owned(query: TaskQuery) -> ColumnElement[bool]:
    return true() if query.owner is None else TASKS.c.owner == query.owner


def _sortable(key: TaskSortKey) -> ColumnElement[Any]:
    if key is TaskSortKey.EXPIRES_AT:
        # A comparison with null is unknown, so tasks that have not ended sort as expiring last.
        return func.coalesce(TASKS.c.expires_at, literal(_NEVER, UtcTime))
    return TASKS.c[key]


def _after(connection: Connection, query: TaskQuery, levels: tuple[ColumnElement[Any], ...]) -> ColumnElement[bool]:
    row = connection.execute(select(*levels).where(TASKS.c.id == query.marker, _owned(query))).first()
    if row is None:
        raise BadRequest(f"Invalid marker: there is no task with ID {query.marker}")
    here = tuple_(*levels)
    there = tuple_(*(literal(value, level.type) for value, level in zip(row, levels, strict=True)))
    return here < there if query.descending else here > there
