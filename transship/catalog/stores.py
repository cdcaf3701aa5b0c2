"""Store settings edited in the Prefect UI, saved by the keeper, and the locations that were prepared for use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_or_replace, add_unless_there
from transship.catalog.schema import META, STORES


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


def _prepared_name(user: str, place: str) -> str:
    # Names in that table have at most 64 characters.
    return f"prepared {hashlib.sha256(f'{user}: {place}'.encode()).hexdigest()[:48]}"
