"""Which copies of images were verified, and which of them are damaged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, update

from transship.catalog.schema import IMAGES, LOCATIONS


@dataclass(frozen=True, slots=True)
class VisibleCopy:
    """A copy that clients see, and what it should be.

    Attributes:
        epoch: of the lease under which it was written.
        size: of the image's data, in bytes.
        algorithm, digest: of the image's data; lower-case hex.
        verified_at: when it was last read; None: never.
    """

    id: int
    image_id: str
    store: str
    url: str
    epoch: int
    size: int
    algorithm: str
    digest: str
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class DamagedCopy:
    """A copy whose bytes are not the image's.

    Attributes:
        damage: what was found.
    """

    image_id: str
    store: str
    damage: str


def next_to_verify(connection: Connection, stores: Collection[str], before: datetime) -> VisibleCopy | None:
    """Return the copy that has not been verified for the longest time; None if all were verified since ``before``."""
    due = LOCATIONS.c.verified_at.is_(None) | (LOCATIONS.c.verified_at < before)
    row = connection.execute(
        _copies()
        .where(LOCATIONS.c.store.in_(stores), due)
        .order_by(LOCATIONS.c.verified_at.nulls_first(), LOCATIONS.c.id)
        .limit(1)
    ).first()
    return None if row is None else VisibleCopy(*row)


def other_copies(connection: Connection, copy: VisibleCopy) -> list[VisibleCopy]:
    """Return the image's copies in other stores that are not known to be damaged, those verified last first."""
    rows = connection.execute(
        _copies()
        .where(LOCATIONS.c.image_id == copy.image_id, LOCATIONS.c.store != copy.store, LOCATIONS.c.damage.is_(None))
        .order_by(LOCATIONS.c.verified_at.desc().nulls_last(), LOCATIONS.c.id)
    )
    return [VisibleCopy(*row) for row in rows]


def note_verified(connection: Connection, copy: VisibleCopy, damage: str | None, now: datetime) -> bool:
    """Record the result of a verification; return False, and record nothing, if the copy is another one by now.

    Args:
        damage: what was wrong; None: nothing.
    """
    noted = connection.execute(update(LOCATIONS).where(_same(copy)).values(verified_at=now, damage=damage))
    return noted.rowcount > 0


def is_damaged(connection: Connection, copy: VisibleCopy) -> bool:
    """Whether this very copy is still there, seen by clients, and known to be damaged."""
    found = select(LOCATIONS.c.id).where(_same(copy), LOCATIONS.c.damage.is_not(None))
    return connection.execute(found).first() is not None


def damaged_copies(connection: Connection) -> list[DamagedCopy]:
    """Return all copies that clients see and that are known to be damaged, by image and store."""
    rows = connection.execute(
        select(LOCATIONS.c.image_id, LOCATIONS.c.store, LOCATIONS.c.damage)
        .where(LOCATIONS.c.state == "active", LOCATIONS.c.damage.is_not(None))
        .order_by(LOCATIONS.c.image_id, LOCATIONS.c.store)
    )
    return [DamagedCopy(*row) for row in rows]


def _copies() -> Select[Any]:
    known = IMAGES.c.os_hash_value.is_not(None) & IMAGES.c.size.is_not(None)
    return (
        select(
            LOCATIONS.c.id,
            LOCATIONS.c.image_id,
            LOCATIONS.c.store,
            LOCATIONS.c.url,
            LOCATIONS.c.epoch,
            IMAGES.c.size,
            IMAGES.c.os_hash_algo,
            IMAGES.c.os_hash_value,
            LOCATIONS.c.verified_at,
        )
        .join(IMAGES, IMAGES.c.id == LOCATIONS.c.image_id)
        .where(LOCATIONS.c.state == "active", known)
    )


def _same(copy: VisibleCopy) -> ColumnElement[bool]:
    # A copy that was written anew has another epoch.
    return (LOCATIONS.c.id == copy.id) & (LOCATIONS.c.epoch == copy.epoch) & (LOCATIONS.c.state == "active")
