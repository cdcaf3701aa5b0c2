"""Which driver serves which settings: the one table of store types."""

from __future__ import annotations

import hashlib
import re

from config.settings import FileStoreSettings
from transship.stores.base import StoreDriver
from transship.stores.file import FileStore

StoreSettings = FileStoreSettings
"""Settings of any store type; becomes a union with the second type."""


def driver_of(store_id: str, settings: StoreSettings, catalog_id: str) -> StoreDriver:
    """Return the driver that the settings describe; nothing is opened or written yet.

    Args:
        store_id: id of the store, for messages.
        settings: the store's own settings.
        catalog_id: id of the catalogue that the store belongs to.
    """
    match settings:
        case FileStoreSettings():
            return FileStore(store_id, settings.dir, int(settings.file_mode, 8), catalog_id)


def document_name(store_id: str) -> str:
    """Return the name of a store's block document: the store id, or what Prefect's rules leave of it plus a digest.

    Two ids never share a name: one with other characters than lower-case letters, digits and
    dashes gets them replaced by dashes and 8 characters of its SHA-256 appended.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", store_id.lower())
    if plain == store_id:
        return store_id
    return f"{plain}-{hashlib.sha256(store_id.encode()).hexdigest()[:8]}"
