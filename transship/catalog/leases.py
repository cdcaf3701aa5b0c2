"""Leases: who may write an image now. Every write of an import checks its epoch here.

A lease is *free* (no writer), *queued* (a task waits for a worker; only the request's time limit applies)
or *held* (a worker, or an upload without a task, renews it). Its epoch increases with each change of
holder and never falls, so a worker that was away for too long is recognised by its old epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    Table,
    Update,
    exists,
    func,
    literal,
    null,
    select,
    update,
)

from transship.catalog.bell import Ring, ring_keeper
from transship.catalog.engine import Catalog
from transship.catalog.locks import insert_into
from transship.catalog.schema import LEASES, TASKS
from transship.catalog.types import in_seconds, seconds_since
from transship.domain.errors import LockLost, TaskNotFound


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one image.

    Attributes:
        epoch: checked with each write.
        task_id: its task; empty for an upload, which has none.
        owner: the holder.
    """

    image_id: str
    epoch: int
    task_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease in the catalogue.

    Attributes:
        state: ``free``, ``queued`` or ``held``.
        expired: held, and not renewed in time.
        age_s: seconds since it entered this state.
    """

    image_id: str
    epoch: int
    state: str
    task_id: str | None
    owner: str | None
    expired: bool
    age_s: float

    @property
    def live(self) -> bool:
        """Whether a worker holds it and renewed it in time."""
        return self.state == "held" and not self.expired


def lock_lease(connection: Connection, image_id: str) -> LeaseState:
    """Return an image's lease, and lock the image against other writers until this transaction ends.

    Anything read about the image before is invalid, because it may have changed while this waited.

    Raises:
        LockLost: there is no such image.
    """
    return _lease_state(
        connection.execute(_LEASE.where(LEASES.c.image_id == image_id).with_for_update()).first(), image_id
    )


def lock_lease_of_task(connection: Connection, task_id: str) -> LeaseState:
    """Return the lease of a task's image, locked as by `lock_lease`.

    Raises:
        TaskNotFound: there is no such task.
    """
    image = select(TASKS.c.image_id).where(TASKS.c.id == task_id).scalar_subquery()
    row = connection.execute(_LEASE.where(LEASES.c.image_id == image).with_for_update()).first()
    if row is None:
        raise TaskNotFound(task_id)
    return _lease_state(row, row.image_id)


def lease_of(connection: Connection, image_id: str) -> LeaseState:
    """Return an image's current lease.

    Raises:
        LockLost: there is no such image.
    """
    return _lease_state(connection.execute(_LEASE.where(LEASES.c.image_id == image_id)).first(), image_id)


_LEASE: Final = select(
    LEASES, (LEASES.c.expires_at < in_seconds(0)).label("expired"), seconds_since(LEASES.c.since).label("age_s")
)
LEASE_COLUMNS: Final = (
    LEASES.c.epoch.label("lease_epoch"),
    LEASES.c.state.label("lease_state"),
    LEASES.c.task_id.label("lease_task_id"),
    LEASES.c.owner.label("lease_owner"),
    (LEASES.c.expires_at < in_seconds(0)).label("lease_expired"),
    seconds_since(LEASES.c.since).label("lease_age_s"),
)
"""The columns of a lease in a join; `joined_lease` reads them."""


def joined_lease(row: Row[Any]) -> LeaseState:
    """Return the lease in a row with `LEASE_COLUMNS` and ``image_id``."""
    return LeaseState(
        row.image_id,
        row.lease_epoch,
        row.lease_state,
        row.lease_task_id,
        row.lease_owner,
        bool(row.lease_expired),
        float(row.lease_age_s),
    )


def _lease_state(row: Row[Any] | None, image_id: str) -> LeaseState:
    if row is None:
        raise LockLost(image_id, 0)
    return LeaseState(row.image_id, row.epoch, row.state, row.task_id, row.owner, bool(row.expired), float(row.age_s))


def queue_lease(connection: Connection, image_id: str, task_id: str) -> None:
    """Reserve a lease for a task that waits for a worker, under a new epoch."""
    connection.execute(_queued(image_id, task_id))


def queue_free_lease(connection: Connection, image_id: str, task_id: str) -> bool:
    """Reserve a lease that is free, as `queue_lease`, and lock it; return whether it was free."""
    return bool(connection.execute(_queued(image_id, task_id).where(LEASES.c.state == "free")).rowcount)


def _queued(image_id: str, task_id: str) -> Update:
    return (
        update(LEASES)
        .where(LEASES.c.image_id == image_id)
        .values(
            epoch=LEASES.c.epoch + 1, state="queued", task_id=task_id, owner=None, since=in_seconds(0), expires_at=None
        )
    )


def take_lease(connection: Connection, image_id: str, task_id: str | None, owner: str, ttl_s: float) -> Lease:
    """Take a lease under a new epoch from any former holder; the caller has checked that this is allowed.

    Args:
        task_id: its task; None for an upload.
    """
    taken = _held(task_id, owner, ttl_s).where(LEASES.c.image_id == image_id)
    epoch = connection.execute(taken.returning(LEASES.c.epoch)).scalar_one()
    return Lease(image_id, epoch, task_id or "", owner)


def take_waiting_lease(connection: Connection, task_id: str, owner: str, ttl_s: float) -> Lease | None:
    """Take the lease of a task that waits for a worker or has lost it; None if it does neither."""
    image = select(TASKS.c.image_id).where(TASKS.c.id == task_id).scalar_subquery()
    waits = (LEASES.c.state == "queued") | ((LEASES.c.state == "held") & (LEASES.c.expires_at < in_seconds(0)))
    taken = _held(task_id, owner, ttl_s).where(LEASES.c.image_id == image, LEASES.c.task_id == task_id, waits)
    row = connection.execute(taken.returning(LEASES.c.image_id, LEASES.c.epoch)).first()
    return None if row is None else Lease(row.image_id, row.epoch, task_id, owner)


def _held(task_id: str | None, owner: str, ttl_s: float) -> Update:
    return update(LEASES).values(
        epoch=LEASES.c.epoch + 1,
        state="held",
        task_id=task_id,
        owner=owner,
        since=in_seconds(0),
        expires_at=in_seconds(ttl_s),
    )


def renew_lease(catalog: Catalog, lease: Lease, ttl_s: float) -> None:
    """Renew a lease for ``ttl_s`` seconds; this also works for an expired lease that was not taken over.

    Raises:
        LockLost: another holder has it now.
    """
    with catalog.statement() as connection:
        _set_expiry(connection, lease, ttl_s)


def expire_lease(catalog: Catalog, lease: Lease) -> None:
    """Make a lease expire without ending its task, so the keeper resumes the import at once.

    Raises:
        LockLost: another holder has it now; nothing was written.
    """
    with catalog.write() as connection:
        _set_expiry(connection, lease, -1.0)
        ring_keeper(connection, Ring.WORK)


def _set_expiry(connection: Connection, lease: Lease, ttl_s: float) -> None:
    held = connection.execute(update(LEASES).where(_is(lease)).values(expires_at=in_seconds(ttl_s)))
    if not held.rowcount:
        raise LockLost(lease.image_id, lease.epoch)


def process_name(host_name: str, pid: int) -> str:
    """Return the prefix of a process's name in leases; a nonce follows, because process ids are reused."""
    return f"{host_name} pid {pid}"


def is_of_host(owner: str, host_name: str) -> bool:
    """Return whether the owner of a lease is a process on a host."""
    return owner.startswith(f"{host_name} pid ")


def owned_by_host(host_name: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that the owner of a lease is a process on a host, as in `is_of_host`."""
    start = host_name + process_name("", 0).removesuffix("0")
    return func.substr(LEASES.c.owner, 1, func.length(start)) == start


def expire_lease_of_dead(catalog: Catalog, flow_run_id: str, owner: str) -> bool:
    """Make the lease of a dead process expire, so the keeper resumes its import at once.

    Args:
        flow_run_id: the process's run.
        owner: its `process_name`.

    Returns:
        Whether the process held a lease.
    """
    carried = select(TASKS.c.id).where(TASKS.c.flow_run_id == flow_run_id)
    with catalog.write() as connection:
        expired = connection.execute(
            update(LEASES)
            .where(
                LEASES.c.state == "held",
                LEASES.c.task_id.in_(carried),
                LEASES.c.owner.startswith(f"{owner} ", autoescape=True),
            )
            .values(expires_at=in_seconds(-1.0))
        )
        ring_keeper(connection, Ring.WORK)
    return bool(expired.rowcount)


def prove_lease(connection: Connection, lease: Lease) -> None:
    """Check, in the writing transaction, that the lease is still held.

    Raises:
        LockLost: another holder has it now, or the image was deleted; nothing may be written.
    """
    if connection.execute(_proof(lease)).first() is None:
        raise LockLost(lease.image_id, lease.epoch)


def is_held(lease: Lease) -> ColumnElement[bool]:
    """Return the condition, for the statement that writes, that the lease is still this one.

    It locks the lease as `prove_lease` does, before the statement changes any row.
    """
    return exists(_proof(lease))


def add_while_held(
    connection: Connection, lease: Lease, table: Table, values: Mapping[str, object], key: Sequence[str] = ()
) -> None:
    """Insert a row with the proof of `is_held`.

    Args:
        key: columns that may name a row which is there already, and is replaced as a whole.

    Raises:
        LockLost: another holder has it now, or the image was deleted; nothing was written.
    """
    row = (literal(value, table.c[name].type) for name, value in values.items())
    held = select(*row).select_from(LEASES).where(_is(lease)).with_for_update()
    added = insert_into(connection, table).from_select(list(values), held)
    if key:
        replaced = {column.name: values.get(column.name, null()) for column in table.c if column.name not in key}
        added = added.on_conflict_do_update(index_elements=key, set_=replaced)
    write_while_held(connection, lease, added.execution_options(preserve_rowcount=True))


def write_while_held(connection: Connection, lease: Lease, statement: Insert | Update) -> None:
    """Write one row with a statement that has the proof of `is_held`.

    Raises:
        LockLost: it wrote none: another holder has it now, or the image was deleted.
    """
    if not connection.execute(statement).rowcount:
        raise LockLost(lease.image_id, lease.epoch)


def _proof(lease: Lease) -> Select[Any]:
    return select(LEASES.c.image_id).where(_is(lease)).with_for_update()


def _is(lease: Lease) -> ColumnElement[bool]:
    return (LEASES.c.image_id == lease.image_id) & (LEASES.c.epoch == lease.epoch) & (LEASES.c.state == "held")


def free_lease(connection: Connection, image_id: str) -> None:
    """Free a lease and increase its epoch, so a late writer is refused."""
    connection.execute(_FREED.where(LEASES.c.image_id == image_id))


def give_back_lease(connection: Connection, lease: Lease) -> None:
    """End a lease as its holder, before anything else is written; the image stays locked until the transaction ends.

    Raises:
        LockLost: another holder has it now, or the image was deleted; nothing may be written.
    """
    write_while_held(connection, lease, _FREED.where(_is(lease)))


_FREED: Final = update(LEASES).values(
    epoch=LEASES.c.epoch + 1, state="free", task_id=None, owner=None, since=in_seconds(0), expires_at=None
)


def expired_leases(connection: Connection) -> list[str]:
    """Return the ids of images whose lease is held but has expired."""
    rows = connection.execute(
        select(LEASES.c.image_id).where(LEASES.c.state == "held", LEASES.c.expires_at < in_seconds(0))
    )
    return [row.image_id for row in rows]
