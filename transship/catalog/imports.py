"""How imports begin, one transaction each: requested, begun, begun again by the same flow run.

Each function changes task, lease, image and targets together or not at all. An import only writes its
own columns, so a client's concurrent PATCH is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, select, update

from transship.catalog.bell import Ring, ring_keeper
from transship.catalog.copies import failed_targets, open_targets, targets_of
from transship.catalog.engine import Catalog
from transship.catalog.hosts import refuse_unless_served
from transship.catalog.images import announce_change, get_image, insert_image, lock_image, set_properties
from transship.catalog.journal import staged_upload
from transship.catalog.leases import (
    Lease,
    LeaseState,
    lock_lease_of_task,
    prove_lease,
    queue_free_lease,
    queue_lease,
    take_lease,
    take_waiting_lease,
)
from transship.catalog.locks import lock_name
from transship.catalog.notifications import announce_image, announce_task
from transship.catalog.outbox import OutboxKind, post
from transship.catalog.quotas import refuse_claim
from transship.catalog.schema import IMAGES, TASKS
from transship.catalog.tasks import (
    get_task,
    keep_secret,
    latest_task_of_run,
    move_secrets,
    newest_attempt,
    read_secrets,
    task_of,
)
from transship.domain.admission import admit
from transship.domain.errors import ImageNotFound, Superseded, TaskNotFound
from transship.domain.image import Image, ImageStatus
from transship.domain.import_parameters import ImportParameters
from transship.domain.import_request import ImportRequest, task_input
from transship.domain.methods import COPY_METHOD, ImportMethod
from transship.domain.notification import EventType
from transship.domain.placement import StoreFacts, choose_targets
from transship.domain.quota import Claim
from transship.domain.remote import RemoteAccess
from transship.domain.task import ImportTask, TaskStatus


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller who requests an import.

    Attributes:
        project_id, user_id: from the identity service; empty without one.
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
        access: how the caller reaches the source of a glance-download.
        claim: what the import uses of the quota of the image's project.
    """

    request: ImportRequest
    targets: tuple[str, ...]
    access: RemoteAccess | None = None
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An import that this process carries out now.

    Attributes:
        uri: the full source URI, which may hold secrets.
        strict: the image becomes active only when every target was written.
        access: how to reach the source of a glance-download; None for the other methods.
    """

    image: Image
    task: ImportTask
    lease: Lease
    targets: tuple[str, ...]
    strict: bool
    roles: tuple[str, ...]
    uri: str = field(repr=False)
    access: RemoteAccess | None = None

    @property
    def has_data(self) -> bool:
        """Whether the image had its data when this attempt began, so only copies are missing."""
        return self.image.has_data

    @property
    def to_write(self) -> tuple[str, ...]:
        """The targets that do not show the image yet, in order."""
        held = {location.store for location in self.image.locations}
        return tuple(store for store in self.targets if store not in held)


def ask_import(catalog: Catalog, image_id: str, order: Order, caller: Caller, now: datetime) -> ImportTask:
    """Take the import lock and queue the request for the keeper, in one transaction.

    Raises:
        ImageNotFound, AlreadyBeingCopied, ImportRunning, WrongStatus, FormatMissing, UploadIncomplete,
            ProjectOverQuota: nothing was changed.
    """
    task_id = str(uuid4())
    with catalog.write() as connection:
        refuse_claim(connection, order.claim)
        if queue_free_lease(connection, image_id, task_id):
            # That locked the image, and nobody had its lease.
            image = replace(get_image(connection, image_id), import_task=None)
            admit(image, order.request)
        else:
            image = _admitted(connection, image_id, order.request)
            queue_lease(connection, image_id, task_id)
        task = _ask(connection, catalog, image, task_id, order, caller, now)
        post(connection, OutboxKind.DISPATCH, f"{task_id}/1", task_id, {"attempt": 1})
        return task


def begin_import(catalog: Catalog, task_id: str, flow_run_id: str, owner: str, *, ttl_s: float, now: datetime) -> Begun:
    """Begin an import in this process.

    If a flow run is started again after its task has failed, this opens a new task with the next
    attempt number; the old task does not change.

    Args:
        task_id: the task that the run was started for.
        flow_run_id: Prefect's id of this run.
        owner: this process, for display: host, process id, nonce.

    Raises:
        Superseded: the import has ended, or another process has it; nothing was changed.
    """
    with catalog.write() as connection:
        lease = take_waiting_lease(connection, task_id, owner, ttl_s)
        if lease is None:
            task = _next_task(connection, task_id, flow_run_id, now)
            lease = take_lease(connection, task.image_id, task.id, owner, ttl_s)
        return _begun(connection, catalog, lease, flow_run_id, now)


def begin_by_hand(
    catalog: Catalog,
    image: Image | str,
    request: ImportRequest,
    stores: Sequence[StoreFacts],
    caller: Caller,
    flow_run_id: str,
    owner: str,
    *,
    host: str,
    ttl_s: float,
    now: datetime,
    access: RemoteAccess | None = None,
) -> Begun:
    """Begin an import in this process that was not requested through the API.

    The flow run's id identifies the image and task of an earlier attempt, so a Retry creates no second image. Uploaded
    data in another host's staging are imported there.

    Args:
        image: the image to create if the run is new, or the id of the one to import.
        stores: all stores of the site.
        host: name of this host.
        access: as in `Order`.

    Raises:
        Superseded: as `begin_import`, or the import continues on another host, or every store has the image.
        ImageExists: an image of that id exists; nothing was changed.
        RequestRefused: the image does not allow this import, or that host is gone; nothing was changed.
    """
    with catalog.write() as connection:
        lock_name(connection, f"flow run {flow_run_id}")
        known = latest_task_of_run(connection, flow_run_id)
        if known is None:
            if isinstance(image, Image):
                # A new image is queued and free, and may lack the disk format, which is detected from the data.
                insert_image(connection, image)
            else:
                image = _admitted(connection, image, request)
            targets = choose_targets(request, None, stores, [location.store for location in image.locations])
            if not targets:
                raise Superseded("every store holds the image")
            order = Order(request, targets, access)
            task = _ask(connection, catalog, image, str(uuid4()), order, caller, now)
            uploaded = request.method.facts.uploaded
            holder = staged_upload(connection, image.id).host if uploaded else host
            if holder == host:
                lease = take_lease(connection, image.id, task.id, owner, ttl_s)
                return _begun(connection, catalog, lease, flow_run_id, now)
            refuse_unless_served(connection, image.id)
            queue_lease(connection, image.id, task.id)
            post(connection, OutboxKind.DISPATCH, f"{task.id}/1", task.id, {"attempt": 1})
    if known is None:
        raise Superseded(f"the data are on host {holder}, where the import continues as task {task.id}")
    return begin_import(catalog, known.id, flow_run_id, owner, ttl_s=ttl_s, now=now)


def inject_properties(catalog: Catalog, lease: Lease, properties: Mapping[str, str]) -> None:
    """Set extra properties as the service, regardless of the caller's rights.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        set_properties(connection, lease.image_id, properties)
        announce_change(connection, lease.image_id)


def _admitted(connection: Connection, image_id: str, request: ImportRequest) -> Image:
    """Lock and return an image, refusing it if its state does not allow an import."""
    image = lock_image(connection, image_id)
    admit(image, request)
    return image


def _ask(
    connection: Connection, catalog: Catalog, image: Image, task_id: str, order: Order, caller: Caller, now: datetime
) -> ImportTask:
    image_id = image.id
    if order.request.method.facts.uploaded:
        staged_upload(connection, image_id)
    made = connection.execute(
        insert(TASKS)
        .values(
            id=task_id,
            image_id=image_id,
            method=order.request.method,
            status=TaskStatus.PENDING,
            owner=caller.project_id,
            user_id=caller.user_id,
            request_id=caller.request_id,
            roles=list(caller.roles),
            input=task_input(image_id, order.request, order.targets),
            parameters=ImportParameters.of(order.request, order.targets, image, task_id).for_flow(),
            message="",
            attempt=1,
            crashes=0,
            strict=order.request.all_stores_must_succeed,
            rerunnable=False,
            settled=False,
            created_at=now,
            updated_at=now,
        )
        .returning(TASKS)
    )
    task = task_of(made.one())
    if order.request.uri:
        keep_secret(connection, catalog, task_id, "uri", order.request.uri)
    if order.access:
        keep_secret(connection, catalog, task_id, "remote", order.access.to_text())
    copying = order.request.method.facts.copies
    # An image that was never imported has no targets.
    open_targets(connection, image_id, task_id, order.targets, keep_failed=copying, fresh=image.importing_to is None)
    _mark_importing(connection, image, now)
    announce_task(connection, EventType.TASK_CREATE, task)
    return task


def _mark_importing(connection: Connection, image: Image, now: datetime) -> None:
    status = image.status if image.has_data else ImageStatus.IMPORTING
    connection.execute(
        update(IMAGES)
        .where(IMAGES.c.id == image.id)
        .values(status=status, has_imported=True, import_message=None, updated_at=now)
    )


def _next_task(connection: Connection, task_id: str, flow_run_id: str, now: datetime) -> ImportTask:
    """Lock the image and return the task that a flow run continues: the newest, or a new one if that has ended.

    Args:
        task_id: the task that the run was started for.

    Raises:
        Superseded: the import has ended, or another process runs it.
    """
    try:
        # Lock the lease first, so that later reads stay valid. All tasks of a flow run belong to one image.
        lease = lock_lease_of_task(connection, task_id)
        task = newest_attempt(connection, task_id, flow_run_id)
        image = get_image(connection, task.image_id)
    except (TaskNotFound, ImageNotFound) as gone:
        raise Superseded(f"the image is gone: {gone}") from gone
    if task.flow_run_id not in (None, flow_run_id):
        raise Superseded(f"the import belongs to flow run {task.flow_run_id}")
    if task.status.final:
        return _reopen(connection, task, image, lease, now)
    if lease.task_id != task.id:
        raise Superseded("another import of this image has begun since then")
    if lease.live:
        raise Superseded(f"the import is running in another process ({lease.owner})")
    return task


def _reopen(connection: Connection, ended: ImportTask, image: Image, lease: LeaseState, now: datetime) -> ImportTask:
    """Open a task for the next attempt of a flow run whose task has ended.

    If the image has its data, the failed stores are written from the others.
    """
    row = connection.execute(select(TASKS).where(TASKS.c.id == ended.id)).one()
    newest = connection.execute(
        select(TASKS.c.id).where(TASKS.c.image_id == image.id).order_by(TASKS.c.created_at.desc()).limit(1)
    ).scalar_one()
    lacking = failed_targets(connection, ended.id)
    ours = newest == ended.id and lease.state == "free"
    facts = ImportMethod(ended.method).facts
    if ours and lacking and not facts.in_place and image.status is COPY_METHOD.facts.starts_from:
        request = ImportRequest(COPY_METHOD, all_stores_must_succeed=row.strict)
        changes = {
            "method": COPY_METHOD,
            "input": task_input(image.id, request, lacking),
            "parameters": ImportParameters.of(request, lacking, image, "").for_flow(),
        }
        return _next_attempt(connection, row, changes, lacking, now)
    if ended.status is TaskStatus.SUCCESS:
        raise Superseded("the import has already succeeded")
    if newest == ended.id and not row.rerunnable:
        raise Superseded(f"a retry cannot solve the failure ({ended.message}); start a new import")
    unhashed = facts.in_place and image.has_data and image.os_hash_value is None
    if not ours or not (unhashed or image.status is facts.starts_from):
        raise Superseded("the image was imported again since then")
    return _next_attempt(connection, row, {}, targets_of(connection, ended.id), now)


_KEPT_BY_ATTEMPTS = (
    "image_id",
    "flow_run_id",
    "method",
    "owner",
    "user_id",
    "request_id",
    "roles",
    "input",
    "parameters",
    "strict",
)


def _next_attempt(
    connection: Connection, row: Row[Any], changes: Mapping[str, object], targets: Sequence[str], now: datetime
) -> ImportTask:
    task_id = str(uuid4())
    values: dict[str, Any] = {**{column: getattr(row, column) for column in _KEPT_BY_ATTEMPTS}, **changes}
    values["parameters"] = {**values["parameters"], "task_id": task_id}
    connection.execute(
        insert(TASKS).values(
            **values,
            id=task_id,
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
    move_secrets(connection, row.id, task_id)
    method = ImportMethod(str(values["method"]))
    open_targets(connection, row.image_id, task_id, targets, keep_failed=method.facts.copies)
    _mark_importing(connection, get_image(connection, row.image_id), now)
    opened = get_task(connection, task_id)
    announce_task(connection, EventType.TASK_CREATE, opened)
    return opened


def _begun(connection: Connection, catalog: Catalog, lease: Lease, flow_run_id: str, now: datetime) -> Begun:
    """Return the import of a flow run that has just taken the lease of its task.

    Raises:
        Superseded: another flow run has the task.
    """
    free_for_run = TASKS.c.flow_run_id.is_(None) | (TASKS.c.flow_run_id == flow_run_id)
    row = connection.execute(
        update(TASKS)
        .where(TASKS.c.id == lease.task_id, free_for_run)
        .values(flow_run_id=flow_run_id, status=TaskStatus.PROCESSING, message="", updated_at=now)
        .returning(TASKS)
    ).first()
    if row is None:
        raise Superseded(f"the import belongs to flow run {get_task(connection, lease.task_id).flow_run_id}")
    image, task = get_image(connection, lease.image_id), task_of(row)
    secrets = read_secrets(connection, catalog, task.id)
    remote = secrets.get("remote", "")
    announce_task(connection, EventType.TASK_PROCESSING, task)
    announce_image(connection, EventType.IMAGE_UPDATE, image)
    # It may be the turn of another import.
    ring_keeper(connection, Ring.NEWS)
    return Begun(
        image=image,
        task=task,
        lease=lease,
        targets=targets_of(connection, task.id),
        strict=row.strict,
        roles=tuple(row.roles),
        uri=secrets.get("uri", ""),
        access=RemoteAccess.from_text(remote) if remote else None,
    )
