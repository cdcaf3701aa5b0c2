"""Store settings as edited in the Prefect UI: the keeper writes them here, the API reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_or_replace
from transship.catalog.schema import STORES


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
