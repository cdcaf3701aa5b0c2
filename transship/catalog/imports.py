"""The life of an import, one transaction a step: asked for, begun, finished, failed, resumed.

Each function changes task, lease, image and targets together or not at all. An import writes its
own columns only, so a client's PATCH made meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, update

from transship.catalog.allowances import AllowedAddress, allowance_of
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image, insert_image, lock_image, set_properties
from transship.catalog.leases import (
    Lease,
    LeaseState,
    free_lease,
    lock_lease,
    prove_lease,
    queue_lease,
    take_lease,
)
from transship.catalog.locks import lock_name
from transship.catalog.outbox import OutboxKind, post
from transship.catalog.schema import ALLOWANCES, IMAGES, LOCATIONS, STAGED, TARGETS, TASKS
from transship.catalog.tasks import (
    drop_secrets,
    end_task,
    get_task,
    keep_secret,
    latest_task_of_run,
    read_secret,
    set_flow_run,
)
from transship.domain.admission import STARTS_FROM, admit
from transship.domain.errors import ImageNotFound, Superseded, TaskNotFound
from transship.domain.image import Image, ImageStatus
from transship.domain.import_request import ImportMethod, ImportRequest
from transship.domain.task import ImportTask, TaskStatus


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        project_id, user_id: as the identity service names them; empty without one.
        roles: lower case.
        request_id: ``req-…``.
    """

    project_id: str = ""
    user_id: str = ""
    roles: tuple[str, ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """An import to be carried out.

    Attributes:
        request: what was asked for.
        targets: store ids to write, in order.
        task_input: the request as the user may read it later, without secrets.
    """

    request: ImportRequest
    targets: tuple[str, ...]
    task_input: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Begun:
    """An import that this process now carries.

    Attributes:
        uri: the full source URI, with whatever secrets it holds.
        allowance: an address that it may reach besides the settings' own rules.
        strict: the image becomes active only when every target was written.
    """

    image: Image
    task: ImportTask
    lease: Lease
    targets: tuple[str, ...]
    strict: bool
    roles: tuple[str, ...]
    uri: str
    allowance: AllowedAddress | None


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of an image's final bytes.

    Attributes:
        size: bytes; virtual_size: bytes that a guest sees, None where the format has no such thing.
        checksum: md5 as lower-case hex, None when switched off.
        os_hash_algo, os_hash_value: name and lower-case hex.
    """

    size: int
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str
    os_hash_value: str
    disk_format: str
    container_format: str


def ask_import(catalog: Catalog, image_id: str, order: Order, caller: Caller, now: datetime) -> ImportTask:
    """Take the import lock and leave the request for the keeper, all in one transaction.

    Raises:
        ImageNotFound, ImportRunning, WrongStatus, FormatMissing: nothing was changed.
    """
    with catalog.write() as connection:
        task_id = _ask(connection, catalog, image_id, order, caller, now)
        queue_lease(connection, image_id, task_id)
        post(connection, OutboxKind.DISPATCH, f"{task_id}/1", task_id, {"attempt": 1})
        return get_task(connection, task_id)


def begin_import(catalog: Catalog, task_id: str, flow_run_id: str, owner: str, *, ttl_s: float, now: datetime) -> Begun:
    """Become the process that carries an import.

    A flow run that was started again after its task had failed opens a new task with the next
    attempt's number; the old one stays as it ended.

    Args:
        task_id: the task that the run was started for.
        flow_run_id: Prefect's id of this run.
        owner: this process, for people: host, process id, nonce.

    Raises:
        Superseded: the import is over, or another process carries it; nothing was changed.
    """
    with catalog.write() as connection:
        try:
            task = latest_task_of_run(connection, flow_run_id) or get_task(connection, task_id)
            lease = lock_lease(connection, task.image_id)
            # Read again: the import may have moved on while this waited for the lease.
            task = latest_task_of_run(connection, flow_run_id) or get_task(connection, task_id)
            image = get_image(connection, task.image_id)
        except (TaskNotFound, ImageNotFound) as gone:
            raise Superseded(f"the image is gone: {gone}") from gone
        if task.flow_run_id not in (None, flow_run_id):
            raise Superseded(f"the import is carried by flow run {task.flow_run_id}")
        if task.status.final:
            task = _reopen(connection, catalog, task, image, lease, now)
        elif lease.task_id != task.id:
            raise Superseded("another import of this image was begun since")
        elif lease.live:
            raise Superseded(f"the import is running in another process ({lease.owner})")
        return _take(connection, catalog, task, flow_run_id, owner, ttl_s, now)


def begin_by_hand(
    catalog: Catalog,
    image: Image,
    order: Order,
    caller: Caller,
    flow_run_id: str,
    owner: str,
    *,
    ttl_s: float,
    now: datetime,
) -> Begun:
    """Become the process that carries an import which nobody asked for through the API.

    The flow run's id leads to the image and task of an earlier attempt, so a Retry makes no
    second image.

    Args:
        image: the image to make when the run is new.

    Raises:
        Superseded: as `begin_import`.
        ImageExists: an image of that id exists; nothing was changed.
    """
    with catalog.write() as connection:
        lock_name(connection, f"flow run {flow_run_id}")
        known = latest_task_of_run(connection, flow_run_id)
        if known is None:
            insert_image(connection, image)
            task_id = _ask(connection, catalog, image.id, order, caller, now)
            return _take(connection, catalog, get_task(connection, task_id), flow_run_id, owner, ttl_s, now)
    return begin_import(catalog, known.id, flow_run_id, owner, ttl_s=ttl_s, now=now)


def finish_import(
    catalog: Catalog,
    lease: Lease,
    facts: DataFacts,
    failed: Mapping[str, str],
    *,
    message: str,
    now: datetime,
    time_to_live_h: int,
) -> None:
    """Make the image active, with every location that its stores hold, and end the task well.

    Args:
        failed: reason by store id, for targets that were allowed to fail.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(
            update(LOCATIONS)
            .where(LOCATIONS.c.image_id == lease.image_id, LOCATIONS.c.state == "stored")
            .values(state="active", updated_at=now)
        )
        connection.execute(
            update(IMAGES)
            .where(IMAGES.c.id == lease.image_id)
            .values(status=ImageStatus.ACTIVE, import_message=None, updated_at=now, **asdict(facts))
        )
        _end_targets(connection, lease.image_id, failed)
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.image_id == lease.image_id, TARGETS.c.state != "failed")
            .values(state="done")
        )
        end_task(
            connection,
            lease.task_id,
            TaskStatus.SUCCESS,
            message,
            now=now,
            time_to_live_h=time_to_live_h,
            result={"image_id": lease.image_id},
        )
        drop_secrets(connection, lease.task_id)
        connection.execute(delete(ALLOWANCES).where(ALLOWANCES.c.image_id == lease.image_id))
        _scrap_staged(connection, lease.image_id)
        free_lease(connection, lease.image_id)


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
    """End an import that this process carries: the image may be imported again at once.

    Args:
        failed: reason by store id, for stores that failed by themselves; the other targets get ``message``.
        rerunnable: the fault may pass, so secrets and a resumable part are kept for a rerun.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        _fail(connection, lease.image_id, lease.task_id, message, failed, now, time_to_live_h, rerunnable=rerunnable)
        if rerunnable:
            keep_until = now + timedelta(seconds=rerun_ttl_s)
            connection.execute(
                update(STAGED)
                .where(STAGED.c.image_id == lease.image_id, STAGED.c.role == "source", STAGED.c.state != "scrap")
                .values(keep_until=keep_until)
            )
        _scrap_staged(connection, lease.image_id)
        free_lease(connection, lease.image_id)


def resume_or_end(
    catalog: Catalog, image_id: str, reason: str, *, crash_retries: int, now: datetime, time_to_live_h: int
) -> bool:
    """Take an import whose worker is lost, and start it again or end it; return whether it goes on.

    Nothing happens when a worker renewed the lease, or somebody ended the import, in the meantime.

    Args:
        reason: what became of the worker, for the message.
    """
    with catalog.write() as connection:
        lease = lock_lease(connection, image_id)
        if lease.task_id is None or lease.live:
            return False
        task = get_task(connection, lease.task_id)
        crashes = connection.execute(select(TASKS.c.crashes).where(TASKS.c.id == task.id)).scalar_one()
        if crashes >= crash_retries:
            message = f"{reason}; it was resumed {crashes} times without success. Import the image again."
            _fail(connection, image_id, task.id, message, {}, now, time_to_live_h, rerunnable=True)
            _scrap_staged(connection, image_id)
            free_lease(connection, image_id)
            post(connection, OutboxKind.SWEEP, "sweep", None)
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


def end_unheld(catalog: Catalog, task_id: str, message: str, *, now: datetime, time_to_live_h: int) -> bool:
    """End an import that no worker carries; return whether it was ended.

    A live lease is never ended from outside: then nothing happens.
    """
    with catalog.write() as connection:
        lease = lock_lease(connection, get_task(connection, task_id).image_id)
        task = get_task(connection, task_id)
        if lease.task_id != task_id or lease.live or task.status.final:
            return False
        _fail(connection, task.image_id, task_id, message, {}, now, time_to_live_h, rerunnable=True)
        _scrap_staged(connection, task.image_id)
        free_lease(connection, task.image_id)
        post(connection, OutboxKind.SWEEP, "sweep", None)
        return True


def end_deleted(connection: Connection, image: Image, *, now: datetime, time_to_live_h: int) -> None:
    """End the import of an image that is being deleted, in the deleting transaction.

    Its staged files become scrap, and the keeper is asked to cancel the flow run.

    Args:
        image: as it was when this transaction locked it.
    """
    _scrap_staged(connection, image.id, keep=False)
    if image.import_task is None:
        return
    task = get_task(connection, image.import_task)
    end_task(connection, task.id, TaskStatus.FAILURE, "the image was deleted", now=now, time_to_live_h=time_to_live_h)
    drop_secrets(connection, task.id)
    if task.flow_run_id is not None:
        post(connection, OutboxKind.CANCEL, f"cancel/{task.id}", task.id, {"flow_run_id": task.flow_run_id})
    post(connection, OutboxKind.SWEEP, "sweep", None)


def inject_properties(catalog: Catalog, lease: Lease, properties: Mapping[str, str]) -> None:
    """Set extra properties as the system, whatever the caller may do.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        set_properties(connection, lease.image_id, properties)


def set_target(catalog: Catalog, lease: Lease, store: str, state: str, error: str = "") -> None:
    """Write how far the copy to one store is.

    Args:
        state: ``waiting``, ``uploading``, ``done`` or ``failed``.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.image_id == lease.image_id, TARGETS.c.store == store)
            .values(state=state, error=error)
        )


def _ask(connection: Connection, catalog: Catalog, image_id: str, order: Order, caller: Caller, now: datetime) -> str:
    image = lock_image(connection, image_id)
    admit(image, order.request.method)
    task_id = str(uuid4())
    connection.execute(
        insert(TASKS).values(
            id=task_id,
            image_id=image_id,
            method=order.request.method,
            status=TaskStatus.PENDING,
            owner=caller.project_id,
            user_id=caller.user_id,
            request_id=caller.request_id,
            roles=list(caller.roles),
            input=dict(order.task_input),
            message="",
            attempt=1,
            crashes=0,
            strict=order.request.all_stores_must_succeed,
            rerunnable=False,
            settled=False,
            created_at=now,
            updated_at=now,
        )
    )
    if order.request.uri:
        keep_secret(connection, catalog, task_id, "uri", order.request.uri)
    _open_targets(connection, image_id, task_id, order.targets)
    _mark_importing(connection, image, order.request.method, now)
    return task_id


def _mark_importing(connection: Connection, image: Image, method: ImportMethod, now: datetime) -> None:
    status = image.status if method is ImportMethod.COPY_IMAGE else ImageStatus.IMPORTING
    connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == image.id)
        .values(status=status, has_imported=True, import_message=None, updated_at=now)
    )


def _open_targets(connection: Connection, image_id: str, task_id: str, targets: Sequence[str]) -> None:
    connection.execute(delete(TARGETS).where(TARGETS.c.image_id == image_id))
    rows = [
        {"image_id": image_id, "store": store, "position": n, "task_id": task_id, "state": "waiting", "error": ""}
        for n, store in enumerate(targets)
    ]
    connection.execute(insert(TARGETS), rows)


def _reopen(
    connection: Connection, catalog: Catalog, ended: ImportTask, image: Image, lease: LeaseState, now: datetime
) -> ImportTask:
    """Open the next attempt's task of a flow run whose task has failed."""
    row = connection.execute(select(TASKS).where(TASKS.c.id == ended.id)).one()
    newest = connection.execute(
        select(TASKS.c.id).where(TASKS.c.image_id == image.id).order_by(TASKS.c.created_at.desc()).limit(1)
    ).scalar_one()
    if ended.status is TaskStatus.SUCCESS:
        raise Superseded("the import has succeeded already")
    if newest != ended.id or lease.state != "free" or image.status is not STARTS_FROM[ImportMethod(ended.method)]:
        raise Superseded("the image was imported again since")
    if not row.rerunnable:
        raise Superseded(f"what failed will not pass by itself ({ended.message}); start a new import")
    uri = read_secret(connection, catalog, ended.id, "uri")
    task_id = str(uuid4())
    copied = {
        column: getattr(row, column)
        for column in ("image_id", "method", "owner", "user_id", "request_id", "roles", "input", "strict")
    }
    connection.execute(
        insert(TASKS).values(
            **copied,
            id=task_id,
            flow_run_id=row.flow_run_id,
            status=TaskStatus.PENDING,
            message="",
            attempt=row.attempt + 1,
            crashes=0,
            rerunnable=False,
            settled=False,
            created_at=now,
            updated_at=now,
        )
    )
    if uri:
        keep_secret(connection, catalog, task_id, "uri", uri)
        drop_secrets(connection, ended.id)
    targets = connection.execute(
        select(TARGETS.c.store).where(TARGETS.c.image_id == image.id).order_by(TARGETS.c.position)
    )
    _open_targets(connection, image.id, task_id, [target.store for target in targets])
    _mark_importing(connection, image, ImportMethod(ended.method), now)
    return get_task(connection, task_id)


def _take(
    connection: Connection,
    catalog: Catalog,
    task: ImportTask,
    flow_run_id: str,
    owner: str,
    ttl_s: float,
    now: datetime,
) -> Begun:
    lease = take_lease(connection, task.image_id, task.id, owner, ttl_s)
    set_flow_run(connection, task.id, flow_run_id)
    connection.execute(
        update(TASKS).where(TASKS.c.id == task.id).values(status=TaskStatus.PROCESSING, message="", updated_at=now)
    )
    row = connection.execute(select(TASKS.c.strict, TASKS.c.roles).where(TASKS.c.id == task.id)).one()
    targets = connection.execute(
        select(TARGETS.c.store).where(TARGETS.c.image_id == task.image_id).order_by(TARGETS.c.position)
    )
    return Begun(
        image=get_image(connection, task.image_id),
        task=get_task(connection, task.id),
        lease=lease,
        targets=tuple(target.store for target in targets),
        strict=row.strict,
        roles=tuple(row.roles),
        uri=read_secret(connection, catalog, task.id, "uri"),
        allowance=allowance_of(connection, task.image_id),
    )


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
) -> None:
    method = ImportMethod(connection.execute(select(TASKS.c.method).where(TASKS.c.id == task_id)).scalar_one())
    cleared: dict[str, Any] = {"size": None, "virtual_size": None, "checksum": None}
    cleared |= {"os_hash_algo": None, "os_hash_value": None}
    connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == image_id)
        .values(
            status=STARTS_FROM[method],
            import_message=message,
            updated_at=now,
            **({} if method is ImportMethod.COPY_IMAGE else cleared),
        )
    )
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.state.in_(["uploading", "stored"]))
        .values(state="deleting", updated_at=now)
    )
    connection.execute(
        update(TARGETS)
        .where(TARGETS.c.image_id == image_id, TARGETS.c.state.in_(["waiting", "uploading", "done"]))
        .values(state="failed", error=message)
    )
    _end_targets(connection, image_id, failed)
    end_task(
        connection,
        task_id,
        TaskStatus.FAILURE,
        message,
        now=now,
        time_to_live_h=time_to_live_h,
        rerunnable=rerunnable,
    )
    if not rerunnable:
        drop_secrets(connection, task_id)


def _end_targets(connection: Connection, image_id: str, failed: Mapping[str, str]) -> None:
    for store, reason in failed.items():
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.image_id == image_id, TARGETS.c.store == store)
            .values(state="failed", error=reason)
        )


def _scrap_staged(connection: Connection, image_id: str, *, keep: bool = True) -> None:
    """Hand staged files to removal; with ``keep``, those that are kept for a rerun stay."""
    condition = STAGED.c.image_id == image_id
    if keep:
        condition &= STAGED.c.keep_until.is_(None)
    connection.execute(update(STAGED).where(condition).values(state="scrap", reserved_bytes=0))
