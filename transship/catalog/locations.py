"""Locations that clients give to images. The data there belong to others until an image shows them.

So there is no row before that, and whatever fails earlier leaves nothing to remove.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from transship.catalog.copies import DataFacts, show_copies
from transship.catalog.engine import Catalog
from transship.catalog.leases import Lease, prove_lease
from transship.catalog.locks import lock_name
from transship.catalog.notifications import announce_image
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, TARGETS
from transship.domain.errors import AlreadyInStore, CopyBeingRemoved, LocationTaken
from transship.domain.image import Image, ImageStatus
from transship.domain.locations import FoundLocation, ValidationData
from transship.domain.notification import EventType


def refuse_taken(connection: Connection, image_id: str, found: FoundLocation) -> None:
    """Refuse data that are another image's, because deleting that image deletes them.

    Raises:
        LocationTaken: they are.
    """
    if not found.exclusive:
        return
    others = select(LOCATIONS.c.id).where(
        LOCATIONS.c.store == found.store, LOCATIONS.c.url == found.url, LOCATIONS.c.image_id != image_id
    )
    if connection.execute(others.limit(1)).first() is not None:
        raise LocationTaken(found.store)


def show_registered(catalog: Catalog, lease: Lease, found: FoundLocation, facts: DataFacts, now: datetime) -> None:
    """Give the image that is being imported its data, which makes it active; of an active one, write the digests.

    May be repeated.

    Raises:
        LockLost: another worker took over; nothing was written.
        LocationTaken, CopyBeingRemoved: the data cannot be this image's; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        here = (LOCATIONS.c.image_id == lease.image_id) & (LOCATIONS.c.store == found.store)
        if connection.execute(select(LOCATIONS.c.id).where(here, LOCATIONS.c.state == "active")).first() is None:
            _add(connection, lease.image_id, found, "stored", now)
        image = show_copies(connection, lease, TARGETS.c.store == found.store, facts, None, now)
        digests = {"checksum": facts.checksum, "os_hash_algo": facts.os_hash_algo, "os_hash_value": facts.os_hash_value}
        connection.execute(
            update(IMAGES).where(IMAGES.c.id == lease.image_id, IMAGES.c.os_hash_value.is_(None)).values(digests)
        )
        if image is not None:
            announce_image(connection, EventType.IMAGE_UPDATE, image)


def add_location(
    connection: Connection, image: Image, found: FoundLocation, expected: ValidationData | None, now: datetime
) -> None:
    """Show more data of an image, or the first ones, which make it active; the caller has locked the image.

    Args:
        expected: taken over if the image has no digests; None: they stay unknown.

    Raises:
        LocationTaken, CopyBeingRemoved: the data cannot be this image's.
    """
    _add(connection, image.id, found, "active", now)
    values: dict[str, object] = {"size": found.size, "status": ImageStatus.ACTIVE, "updated_at": now}
    if expected is not None and image.os_hash_value is None:
        values |= {**expected.named(), "checksum": expected.checksum or image.checksum}
    connection.execute(update(IMAGES).where(IMAGES.c.id == image.id).values(values))


def forget_shown(connection: Connection, image_id: str, store: str) -> None:
    """Forget a copy that clients see, and leave its data where they are; the caller has locked the image."""
    connection.execute(delete(LOCATIONS).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store))


def _add(connection: Connection, image_id: str, found: FoundLocation, state: str, now: datetime) -> None:
    # Two images may ask for the same data at the same time.
    lock_name(connection, f"location in {found.store}")
    refuse_taken(connection, image_id, found)
    earlier = select(LOCATIONS.c.state).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == found.store)
    if (known := connection.execute(earlier).scalar_one_or_none()) is not None:
        # It may be the very object that is to be removed.
        raise AlreadyInStore(found.store) if known == "active" else CopyBeingRemoved(found.store)
    epoch = select(LEASES.c.epoch).where(LEASES.c.image_id == image_id).scalar_subquery()
    values = {"image_id": image_id, "store": found.store, "url": found.url, "size": found.size, "state": state}
    values |= {"epoch": epoch, "proof": "", "copied_from": "", "created_at": now, "updated_at": now}
    connection.execute(insert(LOCATIONS).values(values))
