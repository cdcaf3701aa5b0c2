"""Import tasks: the rows that API users read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, case, delete, select, update

from transship.catalog.engine import Catalog
from transship.catalog.schema import SECRETS, TASKS
from transship.domain.errors import TaskNotFound
from transship.domain.task import ImportTask, StoreProgress, TaskProgress, TaskStatus


def get_task(connection: Connection, task_id: str) -> ImportTask:
    """Return a task.

    Raises:
        TaskNotFound: there is none of that id.
    """
    row = connection.execute(select(TASKS).where(TASKS.c.id == task_id)).first()
    if row is None:
        raise TaskNotFound(task_id)
    return task_of(row)


def tasks_of_image(connection: Connection, image_id: str, now: datetime) -> list[ImportTask]:
    """Return an image's tasks that have not expired, newest first."""
    unexpired = (TASKS.c.expires_at.is_(None)) | (TASKS.c.expires_at > now)
    rows = connection.execute(
        select(TASKS).where(TASKS.c.image_id == image_id, unexpired).order_by(TASKS.c.created_at.desc(), TASKS.c.id)
    )
    return [task_of(row) for row in rows]


def unsettled_tasks(connection: Connection, ended_before: datetime) -> list[ImportTask]:
    """Return tasks that ended before a time and whose flow run is not known to have ended."""
    rows = connection.execute(
        select(TASKS)
        .where(TASKS.c.ended_at < ended_before, TASKS.c.settled.is_(False), TASKS.c.flow_run_id.is_not(None))
        .order_by(TASKS.c.ended_at)
        .limit(100)
    )
    return [task_of(row) for row in rows]


def mark_settled(connection: Connection, task_ids: Sequence[str]) -> None:
    """Record that the flow runs of these tasks have ended."""
    connection.execute(update(TASKS).where(TASKS.c.id.in_(task_ids)).values(settled=True))


def latest_task_of_run(connection: Connection, flow_run_id: str) -> ImportTask | None:
    """Return the newest task of a flow run; None when the run is not known."""
    row = connection.execute(
        select(TASKS)
        .where(TASKS.c.flow_run_id == flow_run_id)
        .order_by(TASKS.c.created_at.desc(), TASKS.c.attempt.desc())
        .limit(1)
    ).first()
    return None if row is None else task_of(row)


def newest_attempt(connection: Connection, task_id: str, flow_run_id: str) -> ImportTask:
    """Return the newest task of a flow run or, if it has none yet, the task that the run was started for.

    Raises:
        TaskNotFound: neither exists.
    """
    of_run = TASKS.c.flow_run_id == flow_run_id
    row = connection.execute(
        select(TASKS)
        .where(of_run | (TASKS.c.id == task_id))
        .order_by(case((of_run, 0), else_=1), TASKS.c.created_at.desc(), TASKS.c.attempt.desc())
        .limit(1)
    ).first()
    if row is None:
        raise TaskNotFound(task_id)
    return task_of(row)


def set_flow_run(connection: Connection, task_id: str, flow_run_id: str) -> None:
    """Record the flow run of a task."""
    connection.execute(update(TASKS).where(TASKS.c.id == task_id).values(flow_run_id=flow_run_id))


def set_status(connection: Connection, task_id: str, status: TaskStatus, now: datetime) -> None:
    """Write the status of a task that has not ended."""
    final = [status for status in TaskStatus if status.final]
    connection.execute(
        update(TASKS).where(TASKS.c.id == task_id, TASKS.c.status.not_in(final)).values(status=status, updated_at=now)
    )


def purge_secrets(connection: Connection, ended_before: datetime) -> None:
    """Remove the secrets of tasks that ended before a time; their runs cannot be restarted after that."""
    old = select(TASKS.c.id).where(TASKS.c.ended_at < ended_before)
    connection.execute(delete(SECRETS).where(SECRETS.c.task_id.in_(old)))
    connection.execute(
        update(TASKS).where(TASKS.c.ended_at < ended_before, TASKS.c.rerunnable.is_(True)).values(rerunnable=False)
    )


def report_progress(
    connection: Connection, task_id: str, attempt: int, message: str, progress: TaskProgress, now: datetime
) -> None:
    """Write the progress of a running task; do nothing if the task has ended or is at another attempt."""
    connection.execute(
        update(TASKS)
        .where(TASKS.c.id == task_id, TASKS.c.attempt == attempt, TASKS.c.status == TaskStatus.PROCESSING)
        .values(message=message, progress=asdict(progress), updated_at=now)
    )


def report_end(connection: Connection, task_id: str, attempt: int, progress: TaskProgress) -> None:
    """Write the final progress of a task; do nothing if it is at another attempt."""
    connection.execute(
        update(TASKS).where(TASKS.c.id == task_id, TASKS.c.attempt == attempt).values(progress=asdict(progress))
    )


def end_task(
    connection: Connection,
    task_id: str,
    status: TaskStatus,
    message: str,
    *,
    now: datetime,
    time_to_live_h: int,
    result: Mapping[str, object] | None = None,
    rerunnable: bool = False,
    progress: TaskProgress | None = None,
) -> ImportTask:
    """End a task, and return it; one that has ended is left as it is.

    Args:
        progress: what it shows from now on; None: what it has shown so far.
    """
    shown = {} if progress is None else {"progress": asdict(progress)}
    row = connection.execute(
        update(TASKS)
        .where(TASKS.c.id == task_id, TASKS.c.status.in_([TaskStatus.PENDING, TaskStatus.PROCESSING]))
        .values(
            status=status,
            message=message,
            result=result,
            rerunnable=rerunnable,
            updated_at=now,
            ended_at=now,
            expires_at=now + timedelta(hours=time_to_live_h),
            **shown,
        )
        .returning(TASKS)
    ).first()
    return get_task(connection, task_id) if row is None else task_of(row)


def task_of(row: Row[Any]) -> ImportTask:
    """Return the task in a row."""
    return ImportTask(
        id=row.id,
        image_id=row.image_id,
        method=row.method,
        status=TaskStatus(row.status),
        owner=row.owner,
        created_at=row.created_at,
        updated_at=row.updated_at,
        user_id=row.user_id,
        request_id=row.request_id,
        input=row.input,
        parameters=row.parameters,
        result=row.result,
        message=row.message,
        progress=_progress(row.progress),
        flow_run_id=row.flow_run_id,
        attempt=row.attempt,
        expires_at=row.expires_at,
    )


def _progress(stored: Mapping[str, Any] | None) -> TaskProgress | None:
    if stored is None:
        return None
    # By name, so added fields and fields that older rows lack need no change here.
    return TaskProgress(**{**stored, "stores": tuple(StoreProgress(**store) for store in stored["stores"])})


def keep_secret(connection: Connection, catalog: Catalog, task_id: str, name: str, value: str) -> None:
    """Store a secret of a new task, encrypted."""
    connection.execute(
        SECRETS.insert().values(task_id=task_id, name=name, ciphertext=catalog.encrypt(value), expires_at=None)
    )


def read_secrets(connection: Connection, catalog: Catalog, task_id: str) -> Mapping[str, str]:
    """Return the secrets that a task still has, by name."""
    rows = connection.execute(select(SECRETS.c.name, SECRETS.c.ciphertext).where(SECRETS.c.task_id == task_id))
    return {row.name: catalog.decrypt(row.ciphertext) for row in rows}


def move_secrets(connection: Connection, from_task_id: str, to_task_id: str) -> None:
    """Move all secrets of a task to the task that continues it."""
    connection.execute(update(SECRETS).where(SECRETS.c.task_id == from_task_id).values(task_id=to_task_id))


def drop_secrets(connection: Connection, task_id: str) -> None:
    """Remove all secrets of a task."""
    connection.execute(delete(SECRETS).where(SECRETS.c.task_id == task_id))
