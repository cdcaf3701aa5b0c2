"""Prefect blocks: typed store settings that create drivers. Importing this package registers all of them in Prefect."""

from typing import TYPE_CHECKING, Any, Final

from blocks.image_store import ImageStore, block_class, shared_block_class
from config.settings import StoreSettings
from config.settings.stores import SHARED_KINDS, installed_kinds, kind_of

__all__ = ["BLOCKS", "SHARED_BLOCKS", "ImageStore", "block_class", "block_of", "shared_block_class"]

BLOCKS: Final = {name: block_class(kind) for name, kind in installed_kinds().items()}
"""The block class of each installed kind of store, by the kind's name; each is also an attribute of this module."""

SHARED_BLOCKS: Final = {shared.group: shared_block_class(shared) for shared in SHARED_KINDS}
"""The block class of each group of settings that stores refer to, by its option; attributes of this module as well."""

globals().update({each.__name__: each for each in (*BLOCKS.values(), *SHARED_BLOCKS.values())})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def block_of(settings: StoreSettings) -> ImageStore:
    """Return an unsaved block with a store's settings."""
    return block_class(kind_of(settings)).of(settings)
