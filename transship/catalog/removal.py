"""Who may remove an unneeded copy or staged file: the first process that claims its row.

Housekeeping runs concurrently with imports, deletes and other housekeeping. A process that removes a copy without the
image's lease first claims the copy for a while; until the claim expires, no import writes to the copy's location. A
staged file becomes scrap, which no import uses again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, delete, select, update

from transship.catalog.engine import Catalog
from transship.catalog.journal import LocationRow, StagedRow, location_of, staged_of, uploaded
from transship.catalog.leases import Lease, lock_lease
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, STAGED
from transship.catalog.types import in_seconds
from transship.domain.errors import LockLost, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to remove one copy.

    Attributes:
        row: the claimed copy.
        owner: unique name of the claimant.
        until: seconds of the monotonic clock; a removal must not be started after that.
    """

    row: LocationRow
    owner: str
    until: float

    def check(self) -> None:
        """Make sure, right before the store removes the copy, that there is enough time left.

        Raises:
            StoreUnavailable: an import may write to the location before the store removes the copy.
        """
        if time.monotonic() > self.until:
            raise StoreUnavailable(self.row.store, "it took too long to answer")


def unclaimed() -> ColumnElement[bool]:
    """Return the condition that a copy is not claimed."""
    return (LOCATIONS.c.claim_until.is_(None)) | (LOCATIONS.c.claim_until < in_seconds(0))


def removable_locations(connection: Connection, older_than_s: float) -> list[LocationRow]:
    """Return copies that were marked for removal at least some seconds ago and whose image is not being written."""
    quiet = (LEASES.c.state != "held") | (LEASES.c.expires_at < in_seconds(0))
    rows = connection.execute(
        select(LOCATIONS)
        .join(LEASES, LEASES.c.image_id == LOCATIONS.c.image_id)
        .where(LOCATIONS.c.state == "deleting", LOCATIONS.c.updated_at <= in_seconds(-older_than_s), quiet, unclaimed())
        .order_by(LOCATIONS.c.id)
    )
    return [location_of(row) for row in rows]


def claim_location(
    catalog: Catalog, row: LocationRow, owner: str, *, older_than_s: float, ttl_s: float
) -> Claim | None:
    """Claim a copy for removal; None if it is no longer marked for removal, or is claimed already.

    Args:
        row: the copy as read before.
        owner: a unique name.
        older_than_s: seconds that it must have been marked for removal.
        ttl_s: seconds after which another process may claim it.
    """
    until = _latest_begin(ttl_s)
    with catalog.write() as connection:
        try:
            lease = lock_lease(connection, row.image_id)
        except LockLost:
            return None
        if lease.live:
            return None
        claimed = connection.execute(
            update(LOCATIONS)
            .where(
                LOCATIONS.c.id == row.id,
                LOCATIONS.c.image_id == row.image_id,
                LOCATIONS.c.store == row.store,
                LOCATIONS.c.epoch == row.epoch,
                LOCATIONS.c.state == "deleting",
                LOCATIONS.c.updated_at <= in_seconds(-older_than_s),
                unclaimed(),
            )
            .values(claim=owner, claim_until=in_seconds(ttl_s))
        )
    return Claim(row, owner, until) if claimed.rowcount else None


def give_up_copy(connection: Connection, image_id: str, store: str, *, ttl_s: float) -> Claim:
    """Hide a copy from clients and claim it for removal; the caller has locked the image.

    Args:
        ttl_s: seconds after which another process may claim it.
    """
    row = connection.execute(
        select(LOCATIONS).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store)
    ).one()
    claim = Claim(location_of(row), uuid4().hex, _latest_begin(ttl_s))
    connection.execute(
        update(LOCATIONS)
        .where(LOCATIONS.c.id == claim.row.id)
        .values(state="deleting", updated_at=in_seconds(0), claim=claim.owner, claim_until=in_seconds(ttl_s))
    )
    return claim


def _latest_begin(ttl_s: float) -> float:
    # Leave half of the time for the store to remove the copy.
    return time.monotonic() + ttl_s / 2


def release_location(catalog: Catalog, claim: Claim, *, gone: bool) -> None:
    """End a claim, unless another process has taken it over.

    Args:
        gone: no data of the copy were found, so its row is deleted; otherwise it is checked again later.
    """
    ours = (LOCATIONS.c.id == claim.row.id) & (LOCATIONS.c.claim == claim.owner)
    with catalog.write() as connection:
        if gone:
            connection.execute(delete(LOCATIONS).where(ours))
            return
        connection.execute(update(LOCATIONS).where(ours).values(claim=None, claim_until=None, updated_at=in_seconds(0)))


def scrap_of_host(connection: Connection, host: str) -> list[StagedRow]:
    """Return unneeded files in a host's staging: scrapped, no longer kept, or left by a lost attempt."""
    rows = connection.execute(
        select(STAGED)
        .join(LEASES, LEASES.c.image_id == STAGED.c.image_id)
        .join(IMAGES, IMAGES.c.id == STAGED.c.image_id)
        .where(STAGED.c.host == host, _useless())
        .order_by(STAGED.c.created_at, STAGED.c.name)
    )
    return [staged_of(row) for row in rows]


def hosts_with_scrap(connection: Connection) -> list[str]:
    """Return the hosts with unneeded files in their staging."""
    rows = connection.execute(
        select(STAGED.c.host)
        .distinct()
        .join(LEASES, LEASES.c.image_id == STAGED.c.image_id)
        .join(IMAGES, IMAGES.c.id == STAGED.c.image_id)
        .where(_useless())
        .order_by(STAGED.c.host)
    )
    return list(rows.scalars())


def scrap_staged(catalog: Catalog, row: StagedRow) -> bool:
    """Turn a staged file into scrap; return False if an import has taken it over since it was read."""
    with catalog.write() as connection:
        try:
            lock_lease(connection, row.image_id)
        except LockLost:
            return False
        useless = connection.execute(
            select(STAGED.c.name)
            .join(LEASES, LEASES.c.image_id == STAGED.c.image_id)
            .join(IMAGES, IMAGES.c.id == STAGED.c.image_id)
            .where(STAGED.c.name == row.name, STAGED.c.host == row.host, STAGED.c.epoch == row.epoch, _useless())
        ).first()
        if useless is None:
            return False
        connection.execute(
            update(STAGED)
            .where(STAGED.c.name == row.name, STAGED.c.host == row.host)
            .values(state="scrap", reserved_bytes=0)
        )
        return True


def _useless() -> ColumnElement[bool]:
    # Uploaded data wait for their import without a lease.
    unneeded = STAGED.c.keep_until.is_(None) | (STAGED.c.keep_until < in_seconds(0))
    return (STAGED.c.state == "scrap") | ((LEASES.c.state == "free") & unneeded & ~uploaded())


def forget_hidden(catalog: Catalog, lease: Lease | None) -> list[str]:
    """Forget all copies that clients do not see, except those that a live worker began under its current lease.

    A worker that has taken over a copy of an earlier attempt loses its lease, and its import is resumed.

    Args:
        lease: of an import that has not taken over anything yet, and keeps its lease.

    Returns:
        Their URLs.
    """
    with catalog.statement() as connection:
        images = connection.execute(select(LOCATIONS.c.image_id).distinct().where(LOCATIONS.c.state != "active"))
        image_ids = sorted(images.scalars())
    fresh = None if lease is None else lease.image_id
    return [url for image_id in image_ids for url in _forget_hidden_of(catalog, image_id, keep_lease=image_id == fresh)]


def _forget_hidden_of(catalog: Catalog, image_id: str, *, keep_lease: bool) -> list[str]:
    hidden = (LOCATIONS.c.image_id == image_id) & (LOCATIONS.c.state != "active")
    with catalog.write() as connection:
        held = lock_lease(connection, image_id)
        if held.live:
            hidden &= LOCATIONS.c.epoch != held.epoch
        urls = list(connection.execute(select(LOCATIONS.c.url).where(hidden).order_by(LOCATIONS.c.url)).scalars())
        connection.execute(delete(LOCATIONS).where(hidden))
        if urls and held.state == "held" and not keep_lease:
            connection.execute(update(LEASES).where(LEASES.c.image_id == image_id).values(epoch=LEASES.c.epoch + 1))
    return urls
