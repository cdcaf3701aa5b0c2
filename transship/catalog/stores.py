"""Store settings edited in the Prefect UI, locations prepared for use, and stores that are no longer configured."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, select

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_or_replace, add_unless_there
from transship.catalog.schema import LOCATIONS, META, STORES


def mirror_store(connection: Connection, catalog: Catalog, store_id: str, settings_json: str, now: datetime) -> None:
    """Save a store's settings, encrypted, replacing earlier ones.

    Args:
        settings_json: the settings as a JSON object, secrets included.
    """
    values = {"id": store_id, "ciphertext": catalog.encrypt(settings_json), "updated_at": now}
    add_or_replace(connection, STORES, "id", values)


def mirrored_stores(connection: Connection, catalog: Catalog) -> Mapping[str, str]:
    """Return the saved settings, as JSON by store id.

    Raises:
        ConfigurationRefused: they were encrypted with another key.
    """
    return {row.id: catalog.decrypt(row.ciphertext) for row in connection.execute(select(STORES))}


def forget_store(connection: Connection, store_id: str) -> None:
    """Remove a store's saved settings, so that the configured ones apply again."""
    connection.execute(delete(STORES).where(STORES.c.id == store_id))


def was_prepared(connection: Connection, user: str, place: str) -> bool:
    """Return whether a directory or URL was prepared before, so that it must not be created again.

    Args:
        user: e.g. ``store fast``.
        place: URL or path.
    """
    noted = select(META.c.name).where(META.c.name == _prepared_name(user, place))
    return connection.execute(noted).first() is not None


def note_prepared(connection: Connection, user: str, place: str) -> None:
    """Record that a directory or URL was prepared for a user; idempotent."""
    add_unless_there(connection, META, "name", {"name": _prepared_name(user, place), "value": f"{user}: {place}"})


@dataclass(frozen=True, slots=True)
class LeftStore:
    """A store that is not configured, but has copies of images.

    Attributes:
        copies: images with a copy there that clients see.
        alone: how many of them have no copy in a configured store.
    """

    store: str
    copies: int
    alone: int

    @property
    def problem(self) -> str:
        """What this means, and what to do about it."""
        images = "1 image" if self.copies == 1 else f"{self.copies} images"
        held = f"store {self.store} is not configured, but holds copies of {images}"
        lost = f"; downloads of {self.alone} fail with 503, because no other store has a copy"
        return f"{held}{lost if self.alone else ''}. Configure [stores.{self.store}] again and run 'transship reload'"


def left_stores(connection: Connection, configured: Collection[str]) -> list[LeftStore]:
    """Return the stores with copies of images that are not among the configured ones, by id."""
    other = LOCATIONS.alias()
    elsewhere = exists().where(
        other.c.image_id == LOCATIONS.c.image_id, other.c.state == "active", other.c.store.in_(configured)
    )
    rows = connection.execute(
        select(LOCATIONS.c.store, func.count(), func.count().filter(~elsewhere))
        .where(LOCATIONS.c.state == "active", LOCATIONS.c.store.not_in(configured))
        .group_by(LOCATIONS.c.store)
        .order_by(LOCATIONS.c.store)
    )
    return [LeftStore(*row) for row in rows]


def _prepared_name(user: str, place: str) -> str:
    # Names in that table have at most 64 characters.
    return f"prepared {hashlib.sha256(f'{user}: {place}'.encode()).hexdigest()[:48]}"
