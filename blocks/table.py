"""Which block shows which settings, and where a store's block document is found."""

from __future__ import annotations

import hashlib
import re
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


def document_name(store_id: str) -> str:
    """Return the name of a store's block document: the store id, or what Prefect's rules leave of it plus a digest.

    Two ids never share a name: one with other characters than lower-case letters, digits and
    dashes gets them replaced by dashes and 8 characters of its SHA-256 appended.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", store_id.lower())
    if plain == store_id:
        return store_id
    return f"{plain}-{hashlib.sha256(store_id.encode()).hexdigest()[:8]}"
