"""Which block shows which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocks.file_store import FileStoreBlock
from blocks.image_store import ImageStore
from config.settings import FileStoreSettings
from transship.stores.table import StoreSettings

BLOCKS: Final[Mapping[str, type[ImageStore]]] = {"file": FileStoreBlock}
"""Block class by the ``type`` of a store's settings."""


def block_of(settings: StoreSettings) -> ImageStore:
    """Return the block that holds a store's settings; it is not saved."""
    match settings:
        case FileStoreSettings():
            return FileStoreBlock.of(settings)
