"""The journal: what this service has written and where. Only what a row here names is ever deleted.

A *location* row exists before a store sees a byte (``uploading``), becomes ``stored`` when the
store has the whole object, ``active`` when clients can see it, and ``deleting`` when it is to be removed. A
*staged* row exists before its file in staging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from transship.catalog.copies import FINISHED, write_again
from transship.catalog.engine import Catalog
from transship.catalog.leases import Lease, add_while_held, is_held, prove_lease, write_while_held
from transship.catalog.locks import lock_name
from transship.catalog.quotas import refuse_claim
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, STAGED, TARGETS
from transship.catalog.types import in_seconds
from transship.domain.errors import CopyBeingRemoved, StagingBusy, StagingFull, UploadIncomplete
from transship.domain.image import ImageStatus
from transship.domain.quota import Claim
from transship.domain.staged import SOURCE_ROLE


@dataclass(frozen=True, slots=True)
class LocationRow:
    """The journal row of one store's copy of one image.

    Attributes:
        state: ``uploading``, ``stored``, ``active`` or ``deleting``.
        copied_from: name of the file that was copied.
        put_token: token that the store's driver saved for an unfinished put; None: nothing.
    """

    id: int
    image_id: str
    store: str
    url: str
    state: str
    epoch: int
    size: int | None
    copied_from: str
    proof: str
    put_token: str | None = None


def find_location(connection: Connection, image_id: str, store: str) -> LocationRow | None:
    """Return the row of an image in a store; None if the store never got it."""
    row = connection.execute(
        select(LOCATIONS).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store)
    ).first()
    return None if row is None else location_of(row)


@dataclass(frozen=True, slots=True)
class EarlierCopy:
    """What earlier attempts left of a copy.

    Attributes:
        row: of the journal; None if there is none.
        finished: the copy was whole once, and counts as written.
    """

    row: LocationRow | None
    finished: bool

    @property
    def exists(self) -> bool:
        """Whether anything is left, if only in the list of stores."""
        return self.row is not None or self.finished


def earlier_copy(connection: Connection, lease: Lease, store: str) -> EarlierCopy:
    """Return what the holder of a lease finds of its copy in a store."""
    copy = and_(LOCATIONS.c.image_id == LEASES.c.image_id, LOCATIONS.c.store == store)
    target = and_(
        TARGETS.c.image_id == LEASES.c.image_id,
        TARGETS.c.store == store,
        TARGETS.c.task_id == lease.task_id,
        TARGETS.c.state.in_(FINISHED),
    )
    row = connection.execute(
        select(LOCATIONS, TARGETS.c.state.label("finished"))
        .select_from(LEASES)
        .outerjoin(LOCATIONS, copy)
        .outerjoin(TARGETS, target)
        .where(LEASES.c.image_id == lease.image_id)
    ).one()
    return EarlierCopy(None if row.id is None else location_of(row), row.finished is not None)


def location_of(row: Row[Any]) -> LocationRow:
    """Return the copy in a row of the table."""
    return LocationRow(*(getattr(row, field) for field in LocationRow.__slots__))


def known_urls(connection: Connection, store: str) -> frozenset[str]:
    """Return the URLs of everything in a store that the journal names, in any state."""
    return frozenset(connection.execute(select(LOCATIONS.c.url).where(LOCATIONS.c.store == store)).scalars())


def complete_urls(connection: Connection, store: str) -> frozenset[str]:
    """Return the URLs of the complete copies in a store, including those that clients do not see."""
    whole = select(LOCATIONS.c.url).where(LOCATIONS.c.store == store, LOCATIONS.c.state.in_(["stored", "active"]))
    return frozenset(connection.execute(whole).scalars())


def open_location(
    catalog: Catalog,
    lease: Lease,
    store: str,
    url: str,
    now: datetime,
    *,
    copied_from: str = "",
    fresh: bool = False,
) -> None:
    """Record that a store is about to be written; a copy that clients see is never replaced.

    A target whose hidden copy was finished by an earlier attempt is written again.

    Args:
        copied_from: name of the copied file, which identifies the bytes, because a sealed file never changes.
        fresh: earlier attempts left nothing of this copy, so that nothing is given up.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    values = {
        "image_id": lease.image_id,
        "store": store,
        "url": url,
        "state": "uploading",
        "epoch": lease.epoch,
        "proof": "",
        "copied_from": copied_from,
        "created_at": now,
        "updated_at": now,
    }
    if fresh:
        with catalog.statement() as connection:
            add_while_held(connection, lease, LOCATIONS, values)
        return
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(delete(LOCATIONS).where(_hidden(lease.image_id, store)))
        connection.execute(insert(LOCATIONS).values(values))
        write_again(connection, lease, store)


def resume_location(catalog: Catalog, lease: Lease, store: str, now: datetime) -> None:
    """Record that the lease's holder resumes the unfinished copy of a store.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(update(LOCATIONS).where(_unfinished(lease, store)).values(epoch=lease.epoch, updated_at=now))


def keep_put_token(catalog: Catalog, lease: Lease, store: str, token: str, now: datetime) -> None:
    """Save what a store's driver needs to resume the unfinished copy.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(update(LOCATIONS).where(_unfinished(lease, store)).values(put_token=token, updated_at=now))


def mark_deleting(catalog: Catalog, lease: Lease, store: str, now: datetime) -> None:
    """Record that the lease's holder is about to remove a store's copy, unless clients see it.

    Raises:
        LockLost: another worker took over; nothing was written.
        CopyBeingRemoved: housekeeping or a client is removing it; nothing was written.
    """
    copy = (LOCATIONS.c.image_id == lease.image_id) & (LOCATIONS.c.store == store)
    with catalog.write() as connection:
        prove_lease(connection, lease)
        claimed = copy & (LOCATIONS.c.claim_until >= in_seconds(0))
        if connection.execute(select(LOCATIONS.c.id).where(claimed)).first() is not None:
            raise CopyBeingRemoved(store)
        connection.execute(
            update(LOCATIONS)
            .where(copy & (LOCATIONS.c.state != "active"))
            .values(state="deleting", updated_at=now, claim=None, claim_until=None)
        )


def forget_location(catalog: Catalog, lease: Lease, store: str) -> None:
    """Forget a copy that was never written, unless clients see it.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(delete(LOCATIONS).where(_hidden(lease.image_id, store)))


def drop_location(connection: Connection, image_id: str, store: str) -> None:
    """Forget a removed copy, unless it is not marked for removal."""
    connection.execute(
        delete(LOCATIONS).where(
            LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store, LOCATIONS.c.state == "deleting"
        )
    )


def _hidden(image_id: str, store: str) -> ColumnElement[bool]:
    copy = (LOCATIONS.c.image_id == image_id) & (LOCATIONS.c.store == store)
    return copy & (LOCATIONS.c.state != "active")


def _unfinished(lease: Lease, store: str) -> ColumnElement[bool]:
    copy = (LOCATIONS.c.image_id == lease.image_id) & (LOCATIONS.c.store == store)
    return copy & (LOCATIONS.c.state == "uploading")


@dataclass(frozen=True, slots=True)
class StagedRow:
    """The journal row of one file in staging.

    Attributes:
        name: file name in the host's staging directory.
        role: ``source``, or the label of the plugin that created it.
        state: ``part``, ``sealed`` or ``scrap``.
        source_key: sha256 of the source's full URI.
        validators: of the source, for resuming.
        digests: of a sealed file, lower-case hex by algorithm; None if none were computed while it was written.
    """

    name: str
    host: str
    image_id: str
    task_id: str
    epoch: int
    role: str
    state: str
    size: int | None
    reserved_bytes: int
    source_key: str
    validators: Mapping[str, object] | None
    digests: Mapping[str, str] | None


def open_staged(
    catalog: Catalog, lease: Lease, name: str, host: str, role: str, source_key: str, now: datetime
) -> None:
    """Record that a file in staging is about to be created.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    values = {
        "name": name,
        "host": host,
        "image_id": lease.image_id,
        "task_id": lease.task_id,
        "epoch": lease.epoch,
        "role": role,
        "state": "part",
        "reserved_bytes": 0,
        "source_key": source_key,
        "created_at": now,
    }
    with catalog.statement() as connection:
        add_while_held(connection, lease, STAGED, values, key=("name", "host"))


def adopt_staged(catalog: Catalog, lease: Lease, name: str, host: str) -> bool:
    """Take over an earlier attempt's file; return whether that succeeded, because it may have become scrap.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        adopted = connection.execute(
            update(STAGED)
            .where(_file(name, host), STAGED.c.state != "scrap")
            .values(epoch=lease.epoch, task_id=lease.task_id, keep_until=None)
        )
        return bool(adopted.rowcount)


def remember_validators(
    catalog: Catalog, lease: Lease, name: str, host: str, validators: Mapping[str, object] | None
) -> None:
    """Save a source's validators for resuming a broken download; None if it cannot be resumed.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    kept = {"validators": None if validators is None else dict(validators)}
    with catalog.statement() as connection:
        write_while_held(connection, lease, update(STAGED).where(_file(name, host), is_held(lease)).values(kept))


def seal_staged(
    catalog: Catalog, lease: Lease, name: str, host: str, size: int, digests: Mapping[str, str] | None = None
) -> None:
    """Record that a staged file is complete.

    Args:
        size: bytes.
        digests: of its data, lower-case hex by algorithm; None if none were computed.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    found = None if digests is None else dict(digests)
    sealed = {"state": "sealed", "size": size, "reserved_bytes": 0, "digests": found}
    with catalog.statement() as connection:
        write_while_held(connection, lease, update(STAGED).where(_file(name, host), is_held(lease)).values(sealed))


def reserve_staged(
    catalog: Catalog,
    lease: Lease,
    name: str,
    host: str,
    size_bytes: int,
    *,
    occupied: Callable[[str], int],
    available_bytes: int,
    claim: Claim | None = None,
) -> None:
    """Reserve room for a staged file, in addition to the reservations of this host's other imports.

    Args:
        size_bytes: size to which the file may grow.
        occupied: returns the bytes that a staged file occupies already, by its name.
        available_bytes: free bytes of the file system above the floor.
        claim: what data of that size use of their project's quota.

    Raises:
        ProjectOverQuota: the quota does not allow that; the reservation is unchanged.
        StagingFull: there would not be enough room even without the other imports; the reservation is unchanged.
        StagingBusy: there is not enough room until other imports end; the reservation is unchanged.
        LockLost: another worker took over; nothing was written.
    """
    reserved = update(STAGED).where(_file(name, host)).values(reserved_bytes=size_bytes)
    needed = max(0, size_bytes - occupied(name))
    with catalog.write() as connection:
        refuse_claim(connection, claim)
        # Reservations of different images add up, so locking their leases is not enough.
        lock_name(connection, f"staging of {host}")
        # Often there is room even if the others had written nothing of theirs yet.
        ample = _reserved_by_others(name, host) <= available_bytes - needed
        if connection.execute(reserved.where(ample, is_held(lease))).rowcount:
            return
        prove_lease(connection, lease)
        others = connection.execute(
            select(STAGED.c.name, STAGED.c.image_id, STAGED.c.state, STAGED.c.reserved_bytes).where(
                STAGED.c.host == host, STAGED.c.name != name
            )
        ).all()
        taken = {other.name: occupied(other.name) for other in others}
        promised = sum(max(0, other.reserved_bytes - taken[other.name]) for other in others if other.state == "part")
        available = available_bytes - promised
        if needed > available:
            foreign = sum(taken[other.name] for other in others if other.image_id != lease.image_id) + promised
            if needed > available + foreign:
                raise StagingFull(needed, available)
            raise StagingBusy(needed, available, foreign)
        connection.execute(reserved)


def _reserved_by_others(name: str, host: str) -> ColumnElement[int]:
    others = STAGED.alias("others")
    total = select(func.coalesce(func.sum(others.c.reserved_bytes), 0))
    return total.where(others.c.host == host, others.c.name != name, others.c.state == "part").scalar_subquery()


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """Data that wait in staging for a glance-direct import.

    Attributes:
        name: file name in that host's staging directory.
        host: host whose staging holds it.
        size: bytes.
    """

    name: str
    host: str
    size: int


def staged_upload(connection: Connection, image_id: str) -> StagedUpload:
    """Return the data of an image in staging, on any host.

    Raises:
        UploadIncomplete: they are incomplete, or there are none.
    """
    row = connection.execute(
        select(STAGED.c.name, STAGED.c.host, STAGED.c.size).where(
            STAGED.c.image_id == image_id, STAGED.c.role == SOURCE_ROLE, STAGED.c.state == "sealed"
        )
    ).first()
    if row is None:
        raise UploadIncomplete(image_id)
    return StagedUpload(row.name, row.host, row.size)


def staged_of_image(connection: Connection, image_id: str, host: str) -> list[StagedRow]:
    """Return an image's files in a host's staging, oldest first."""
    rows = connection.execute(
        select(STAGED).where(STAGED.c.image_id == image_id, STAGED.c.host == host).order_by(STAGED.c.created_at)
    )
    return [staged_of(row) for row in rows]


def uploaded() -> ColumnElement[bool]:
    """Return the condition for an uploaded file that may be imported; to be joined with its image."""
    return (IMAGES.c.status == ImageStatus.UPLOADING) & (STAGED.c.role == SOURCE_ROLE) & (STAGED.c.state == "sealed")


def drop_staged(connection: Connection, name: str, host: str) -> None:
    """Forget a staged file that was removed."""
    connection.execute(delete(STAGED).where(_file(name, host)))


def _file(name: str, host: str) -> ColumnElement[bool]:
    return (STAGED.c.name == name) & (STAGED.c.host == host)


def staged_of(row: Row[Any]) -> StagedRow:
    """Return the file in a row of the table."""
    return StagedRow(*(getattr(row, field) for field in StagedRow.__slots__))


def staged_names(connection: Connection, host: str) -> frozenset[str]:
    """Return the names of all files in a host's staging that the journal names."""
    return frozenset(connection.execute(select(STAGED.c.name).where(STAGED.c.host == host)).scalars())
