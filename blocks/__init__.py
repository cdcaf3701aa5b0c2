"""Prefect blocks: typed settings, each giving a driver. Importing this package makes all of them known to Prefect."""

from typing import TYPE_CHECKING, Any, Final

from blocks.image_store import ImageStore, block_class
from config.settings import StoreSettings
from config.settings.stores import installed_kinds, kind_of

__all__ = ["BLOCKS", "ImageStore", "block_class", "block_of"]

BLOCKS: Final = {name: block_class(kind) for name, kind in installed_kinds().items()}
"""The block class of each kind of store that is installed, by the kind's name; each can be imported from here too."""

globals().update({each.__name__: each for each in BLOCKS.values()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def block_of(settings: StoreSettings) -> ImageStore:
    """Return the block that holds a store's settings; it is not saved."""
    return block_class(kind_of(settings)).of(settings)
