"""What all blocks of image stores have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field

from transship.stores.base import StoreDriver
from transship.stores.table import StoreSettings, driver_of


class ImageStore(Block, ABC):
    """Settings of one store, to be seen and edited in the Prefect UI; the document is named like the store.

    Every subclass is found by the capability ``image-store``.
    """

    _block_schema_capabilities: ClassVar[list[str]] = ["image-store"]

    description: str = Field("", title="Description", description="One line for people.")
    weight: int = Field(0, title="Weight", description="Higher is preferred for reads and stands first in lists.")

    @abstractmethod
    def settings(self) -> StoreSettings:
        """Return the same settings as the configuration would hold them."""

    def driver(self, store_id: str, catalog_id: str) -> StoreDriver:
        """Return the driver that these settings describe, in a catalogue; nothing is opened or written yet."""
        return driver_of(store_id, self.settings(), catalog_id)
