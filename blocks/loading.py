"""Settings and driver of a store as its block in Prefect describes it now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import httpx
import structlog
from prefect.settings import get_current_settings
from pydantic import ValidationError

from blocks.image_store import ImageStore
from blocks.table import BLOCKS
from transship.domain.errors import ConfigurationRefused
from transship.stores.base import StoreDriver
from transship.stores.table import StoreSettings, document_name, driver_of

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


def load_store(store_id: str, configured: StoreSettings, catalog_id: str) -> StoreDriver:
    """Return the driver of a store, with the settings that its block holds now.

    Args:
        store_id: id of the store.
        configured: its settings in the configuration.
        catalog_id: id of the catalogue that the store belongs to.

    Raises:
        ConfigurationRefused: the block holds settings that cannot be used.
    """
    return driver_of(store_id, load_settings_of(store_id, configured), catalog_id)


def load_settings_of(store_id: str, configured: StoreSettings) -> StoreSettings:
    """Return the settings of a store that its block holds now.

    An edit in the Prefect UI so takes effect with the next import. Without such a block, or while
    Prefect cannot be reached, the configured settings hold and a warning is logged.

    Raises:
        ConfigurationRefused: the block holds settings that cannot be used.
    """
    try:
        block = _load(store_id, configured)
    except httpx.HTTPError as error:
        _log.warning("store block not read, using the configured settings", store=store_id, reason=str(error))
        return configured
    if block is None:
        _log.warning("store has no block, using the configured settings", store=store_id)
        return configured
    return block.settings()


def _load(store_id: str, configured: StoreSettings) -> ImageStore | None:
    if get_current_settings().api.url is None:
        return None  # asking now would start a Prefect server of its own in this process
    name = document_name(store_id)
    for block_class in _likely_first(configured):
        slug = block_class.get_block_type_slug()
        try:
            # `_sync` is the decorator's own argument; Prefect does not type it.
            return cast(ImageStore, block_class.load(name, _sync=True))  # type: ignore[call-arg]
        except RuntimeError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise ConfigurationRefused(f"Prefect block {slug}/{name}", *_first_fault(error.__cause__)) from error
        except ValueError:
            continue  # Prefect's way to say that there is no such document
    return None


def _likely_first(configured: StoreSettings) -> Iterator[type[ImageStore]]:
    yield BLOCKS[configured.type]
    yield from (block_class for kind, block_class in BLOCKS.items() if kind != configured.type)


def _first_fault(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_input=False, include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
