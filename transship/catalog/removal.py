"""Who may remove a copy or a staged file that nobody needs: the one whose write to its row came first.

Housekeeping works beside imports, deletes and other housekeepers. Whoever removes a copy without the image's lease
claims it, for a while, before the store is touched: as long as the claim lasts no import writes that copy's place. A
staged file becomes scrap, which no import takes up again.
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
        row: the copy as it was claimed.
        owner: who claimed it; nobody else has this name.
        until: seconds of the monotonic clock; what was not begun by then is not begun any more.
    """

    row: LocationRow
    owner: str
    until: float

    def check(self) -> None:
        """Make sure, right before the store is told to remove the copy, that there is time left to do so.

        Raises:
            StoreUnavailable: an import may own the place by the time the store gets to it.
        """
        if time.monotonic() > self.until:
            raise StoreUnavailable(self.row.store, "it took too long to answer")


def unclaimed() -> ColumnElement[bool]:
    """Return the condition that nobody removes a copy now."""
    return (LOCATIONS.c.claim_until.is_(None)) | (LOCATIONS.c.claim_until < in_seconds(0))


def removable_locations(connection: Connection, older_than_s: float) -> list[LocationRow]:
    """Return copies that are to be removed for at least some seconds, and whose image no worker writes now."""
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
    """Take the right to remove a copy; None when it is not to be removed any more, or somebody else is at it.

    Args:
        row: the copy as it was read.
        owner: a name that nobody else has.
        older_than_s: how long it must have been waiting for its removal.
        ttl_s: seconds after which another one may remove it.
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
    """Take a copy away from clients, together with the right to remove it; the caller has locked the image.

    Args:
        ttl_s: seconds after which another one may remove it.
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
    # Half of the time is left for the store to remove the copy.
    return time.monotonic() + ttl_s / 2


def release_location(catalog: Catalog, claim: Claim, *, gone: bool) -> None:
    """End a claim. A claim that another one took over since is left to that one.

    Args:
        gone: nothing of the copy was found, so its row goes; else it waits for another look.
    """
    ours = (LOCATIONS.c.id == claim.row.id) & (LOCATIONS.c.claim == claim.owner)
    with catalog.write() as connection:
        if gone:
            connection.execute(delete(LOCATIONS).where(ours))
            return
        connection.execute(update(LOCATIONS).where(ours).values(claim=None, claim_until=None, updated_at=in_seconds(0)))


def scrap_of_host(connection: Connection, host: str) -> list[StagedRow]:
    """Return files of a host's staging that nobody needs: scrapped, no longer kept, or left by a lost attempt."""
    rows = connection.execute(
        select(STAGED)
        .join(LEASES, LEASES.c.image_id == STAGED.c.image_id)
        .join(IMAGES, IMAGES.c.id == STAGED.c.image_id)
        .where(STAGED.c.host == host, _useless())
        .order_by(STAGED.c.created_at, STAGED.c.name)
    )
    return [staged_of(row) for row in rows]


def hosts_with_scrap(connection: Connection) -> list[str]:
    """Return the hosts in whose staging something lies that nobody needs."""
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
    """Turn a staged file into scrap; return whether it is: an import may have taken it up since it was read."""
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
    # What a client uploaded waits for its import without a lease.
    unneeded = STAGED.c.keep_until.is_(None) | (STAGED.c.keep_until < in_seconds(0))
    return (STAGED.c.state == "scrap") | ((LEASES.c.state == "free") & unneeded & ~uploaded())


def forget_hidden(catalog: Catalog, lease: Lease | None) -> list[str]:
    """Forget all copies that clients do not see, but for those that a live worker began under its present lease.

    A worker that took up a copy of an earlier attempt loses its lease with it, and its import goes on anew.

    Args:
        lease: of an import that has not taken up anything yet, and keeps its lease.

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
