"""The ends of imports, one transaction each: finished, failed, resumed elsewhere, ended from outside, deleted.

Each function changes task, lease, image and targets together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update

from transship.catalog.bell import Ring, ring_keeper
from transship.catalog.copies import Arriving, DataFacts, end_targets, fail_targets, show_copies
from transship.catalog.engine import Catalog
from transship.catalog.images import announce_change, get_image
from transship.catalog.journal import staged_upload
from transship.catalog.leases import Lease, free_lease, give_back_lease, is_of_host, lock_lease, queue_lease
from transship.catalog.notifications import announce_image, announce_task
from transship.catalog.outbox import OutboxKind, post
from transship.catalog.schema import IMAGES, LOCATIONS, SECRETS, STAGED, TARGETS, TASKS
from transship.catalog.tasks import drop_secrets, end_task, get_task
from transship.domain.errors import UploadIncomplete
from transship.domain.image import Image, ImageStatus
from transship.domain.methods import ImportMethod
from transship.domain.notification import EventType
from transship.domain.task import ImportTask, TaskProgress, TaskStatus


def finish_import(
    catalog: Catalog,
    lease: Lease,
    facts: DataFacts,
    failed: Mapping[str, str],
    *,
    message: str,
    now: datetime,
    time_to_live_h: int,
    arriving: Arriving | None = None,
    progress: TaskProgress | None = None,
) -> None:
    """Show all remaining copies, make the image active if it is not, and complete the task.

    Args:
        facts: of the data; without effect on an image that has data already.
        failed: reason by store id, for targets that were allowed to fail.
        arriving: properties that are set together with the data.
        progress: what the task shows from now on; None: what it has shown so far.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        give_back_lease(connection, lease)
        image = show_copies(connection, lease, TARGETS.c.store.not_in(list(failed)), facts, arriving, now)
        end_targets(connection, lease, failed)
        ended = end_task(
            connection,
            lease.task_id,
            TaskStatus.SUCCESS,
            message,
            now=now,
            time_to_live_h=time_to_live_h,
            result={"image_id": lease.image_id},
            progress=progress,
        )
        drop_secrets(connection, lease.task_id)
        _scrap_staged_of(connection, lease)
        if image is not None:
            left = get_image(connection, lease.image_id) if failed else replace(image, import_task=None)
            announce_image(connection, EventType.IMAGE_UPDATE, left)
        announce_task(connection, EventType.TASK_SUCCESS, ended)
        announce_task(connection, EventType.TASK_RUN, ended)
        # It may be the turn of another import.
        ring_keeper(connection, Ring.NEWS)


def fail_import(
    catalog: Catalog,
    lease: Lease,
    message: str,
    failed: Mapping[str, str],
    *,
    rerunnable: bool,
    now: datetime,
    time_to_live_h: int,
    rerun_ttl_s: float,
) -> None:
    """End this process's import as failed; the image may be imported again at once.

    Args:
        failed: reason by store id, for stores that failed themselves; the other targets get ``message``.
        rerunnable: the error may be transient, so keep secrets and a resumable part for a rerun.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        give_back_lease(connection, lease)
        image_id, task_id = lease.image_id, lease.task_id
        ended = _fail(connection, image_id, task_id, message, failed, now, time_to_live_h, rerunnable=rerunnable)
        if rerunnable:
            _keep_sources(connection, lease.image_id, now + timedelta(seconds=rerun_ttl_s))
        _scrap_staged_of(connection, lease)
        _announce_failure(connection, ended)
        ring_keeper(connection, Ring.NEWS)


def resume_or_end(
    catalog: Catalog,
    image_id: str,
    reason: str,
    *,
    crash_retries: int,
    now: datetime,
    time_to_live_h: int,
    rerun_ttl_s: float = 0.0,
) -> bool:
    """Take over an import whose worker is lost, and resume or end it; return whether it was resumed.

    Does nothing if a worker has renewed the lease, or the import has ended, in the meantime.

    Args:
        reason: what happened to the worker, for the message.
        rerun_ttl_s: how long an ended import keeps what a rerun can use.
    """
    with catalog.write() as connection:
        lease = lock_lease(connection, image_id)
        if lease.task_id is None or lease.live:
            return False
        task = get_task(connection, lease.task_id)
        crashes = connection.execute(select(TASKS.c.crashes).where(TASKS.c.id == task.id)).scalar_one()
        if crashes >= crash_retries:
            message = f"{reason}; it was resumed {crashes} times without success. Import the image again."
            _end_from_outside(connection, image_id, task.id, message, now, time_to_live_h, rerun_ttl_s)
            return False
        attempt = task.attempt + 1
        queue_lease(connection, image_id, task.id)
        connection.execute(
            update(TASKS)
            .where(TASKS.c.id == task.id)
            .values(
                status=TaskStatus.PENDING,
                attempt=attempt,
                crashes=crashes + 1,
                message=f"{reason}; it is being resumed (attempt {attempt})",
                updated_at=now,
            )
        )
        post(connection, OutboxKind.DISPATCH, f"{task.id}/{attempt}", task.id, {"attempt": attempt})
        return True


def end_unheld(
    catalog: Catalog, task_id: str, message: str, *, now: datetime, time_to_live_h: int, rerun_ttl_s: float = 0.0
) -> bool:
    """End an import that has no worker; return whether it was ended.

    Does nothing if the lease is live, because live leases are never ended from outside.

    Args:
        rerun_ttl_s: how long the import keeps what a rerun can use.
    """
    with catalog.write() as connection:
        lease = lock_lease(connection, get_task(connection, task_id).image_id)
        task = get_task(connection, task_id)
        if lease.task_id != task_id or lease.live or task.status.final:
            return False
        _end_from_outside(connection, task.image_id, task_id, message, now, time_to_live_h, rerun_ttl_s)
        return True


def end_deleted(connection: Connection, image: Image, *, now: datetime, time_to_live_h: int) -> None:
    """End the import of an image that is being deleted, in the deleting transaction.

    Its staged files become scrap, and the keeper is asked to cancel the flow run.

    Args:
        image: its record when this transaction locked it.
    """
    _scrap_staged(connection, image.id, keep=False)
    # Also those kept for the rerun of a failed import, which will not happen.
    tasks = select(TASKS.c.id).where(TASKS.c.image_id == image.id)
    connection.execute(delete(SECRETS).where(SECRETS.c.task_id.in_(tasks)))
    if image.import_task is None:
        return
    task = get_task(connection, image.import_task)
    deleted = "the image was deleted"
    ended = end_task(connection, task.id, TaskStatus.FAILURE, deleted, now=now, time_to_live_h=time_to_live_h)
    announce_task(connection, EventType.TASK_FAILURE, ended)
    if task.flow_run_id is not None:
        post(connection, OutboxKind.CANCEL, f"cancel/{task.id}", task.id, {"flow_run_id": task.flow_run_id})
    post(connection, OutboxKind.SWEEP, "sweep", None)


def _announce_failure(connection: Connection, ended: ImportTask) -> None:
    announce_change(connection, ended.image_id)
    announce_task(connection, EventType.TASK_FAILURE, ended)


def _fail(
    connection: Connection,
    image_id: str,
    task_id: str,
    message: str,
    failed: Mapping[str, str],
    now: datetime,
    time_to_live_h: int,
    *,
    rerunnable: bool,
) -> ImportTask:
    method = ImportMethod(connection.execute(select(TASKS.c.method).where(TASKS.c.id == task_id)).scalar_one())
    # An image that has data keeps them and its status: only a copy, or stores after the first one, failed.
    connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == image_id, IMAGES.c.status == ImageStatus.IMPORTING)
        .values(**_landing(connection, image_id, method, rerunnable=rerunnable))
    )
    connection.execute(update(IMAGES).where(IMAGES.c.id == image_id).values(import_message=message, updated_at=now))
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.state.in_(["uploading", "stored"]))
        .values(state="deleting", updated_at=now)
    )
    fail_targets(connection, image_id, task_id, message, failed)
    if not rerunnable:
        drop_secrets(connection, task_id)
    return end_task(
        connection,
        task_id,
        TaskStatus.FAILURE,
        message,
        now=now,
        time_to_live_h=time_to_live_h,
        rerunnable=rerunnable,
    )


def _end_from_outside(
    connection: Connection,
    image_id: str,
    task_id: str,
    message: str,
    now: datetime,
    time_to_live_h: int,
    rerun_ttl_s: float,
) -> None:
    """End an import whose worker is gone; keep for a while what a rerun of its flow run can use."""
    ended = _fail(connection, image_id, task_id, message, {}, now, time_to_live_h, rerunnable=True)
    _keep_sources(connection, image_id, now + timedelta(seconds=rerun_ttl_s))
    _scrap_staged(connection, image_id)
    free_lease(connection, image_id)
    _announce_failure(connection, ended)
    post(connection, OutboxKind.SWEEP, "sweep", None)


def _scrap_staged_of(connection: Connection, lease: Lease) -> None:
    """Mark the staged files of a lease's holder for removal, except those kept for a rerun.

    Other hosts remove what earlier attempts left in their staging, because this process can only access its own.
    """
    hosts = _scrap_staged(connection, lease.image_id)
    if not all(is_of_host(lease.owner, host) for host in hosts):
        post(connection, OutboxKind.SWEEP, "sweep", None)


def _keep_sources(connection: Connection, image_id: str, until: datetime) -> None:
    """Keep files from outside that are complete, or have validators of their source and can be resumed."""
    rows = connection.execute(
        select(STAGED.c.name, STAGED.c.host, STAGED.c.state, STAGED.c.validators).where(
            STAGED.c.image_id == image_id, STAGED.c.role == "source", STAGED.c.state != "scrap"
        )
    ).all()
    for row in rows:
        if row.state == "sealed" or row.validators is not None:
            kept = (STAGED.c.name == row.name) & (STAGED.c.host == row.host)
            connection.execute(update(STAGED).where(kept).values(keep_until=until))


def _landing(connection: Connection, image_id: str, method: ImportMethod, *, rerunnable: bool) -> dict[str, Any]:
    """Return the column values of an image after a failed import, which can be imported again at once.

    Uploaded data are kept unless they are at fault; the image then returns to its status before the import.
    """
    cleared: dict[str, Any] = {"size": None, "virtual_size": None, "checksum": None}
    cleared |= {"os_hash_algo": None, "os_hash_value": None}
    facts = method.facts
    if not (facts.uploaded and rerunnable):
        return {"status": facts.without_data, **cleared}
    try:
        return {"status": facts.starts_from, **cleared, "size": staged_upload(connection, image_id).size}
    except UploadIncomplete:
        return {"status": facts.without_data, **cleared}


def _scrap_staged(connection: Connection, image_id: str, *, keep: bool = True) -> frozenset[str]:
    """Mark staged files for removal, and return their hosts; with ``keep``, files kept for a rerun stay."""
    condition = STAGED.c.image_id == image_id
    if keep:
        condition &= STAGED.c.keep_until.is_(None)
    scrapped = update(STAGED).where(condition).values(state="scrap", reserved_bytes=0).returning(STAGED.c.host)
    return frozenset(connection.execute(scrapped).scalars())
