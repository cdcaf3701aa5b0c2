"""Store settings as edited in the Prefect UI, written by the keeper, and which places were prepared for their users."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_or_replace, add_unless_there
from transship.catalog.schema import META, STORES


def mirror_store(connection: Connection, catalog: Catalog, store_id: str, settings_json: str, now: datetime) -> None:
    """Keep a store's settings, encrypted; they replace those kept before.

    Args:
        settings_json: the settings as a JSON object, secrets included.
    """
    values = {"id": store_id, "ciphertext": catalog.encrypt(settings_json), "updated_at": now}
    add_or_replace(connection, STORES, "id", values)


def mirrored_stores(connection: Connection, catalog: Catalog) -> Mapping[str, str]:
    """Return the settings kept, as JSON by store id.

    Raises:
        ConfigurationRefused: they were encrypted under another key.
    """
    return {row.id: catalog.decrypt(row.ciphertext) for row in connection.execute(select(STORES))}


def forget_store(connection: Connection, store_id: str) -> None:
    """Drop the settings kept of a store, so that the configured ones are in force again."""
    connection.execute(delete(STORES).where(STORES.c.id == store_id))


def was_prepared(connection: Connection, user: str, place: str) -> bool:
    """Return whether a place was prepared for a user before, so that it must not be made anew.

    Args:
        user: e.g. ``store fast``.
        place: URL or path.
    """
    noted = select(META.c.name).where(META.c.name == _prepared_name(user, place))
    return connection.execute(noted).first() is not None


def note_prepared(connection: Connection, user: str, place: str) -> None:
    """Note that a place was prepared for a user; noted again, nothing changes."""
    add_unless_there(connection, META, "name", {"name": _prepared_name(user, place), "value": f"{user}: {place}"})


def _prepared_name(user: str, place: str) -> str:
    # Names in that table have 64 characters at most.
    return f"prepared {hashlib.sha256(f'{user}: {place}'.encode()).hexdigest()[:48]}"
