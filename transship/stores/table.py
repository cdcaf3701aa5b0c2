"""Which driver serves which settings: the one table of store types."""

from __future__ import annotations

from config.settings import FileStoreSettings
from transship.stores.base import StoreDriver
from transship.stores.file import FileStore

StoreSettings = FileStoreSettings
"""Settings of any store type; becomes a union with the second type."""


def driver_of(store_id: str, settings: StoreSettings) -> StoreDriver:
    """Return the driver that the settings describe; nothing is opened or written yet.

    Args:
        store_id: id of the store, for messages.
        settings: the store's own settings.
    """
    match settings:
        case FileStoreSettings():
            return FileStore(store_id, settings.dir, int(settings.file_mode, 8))
