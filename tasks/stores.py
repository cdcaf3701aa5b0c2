"""The driver of a store with the current settings from its block in Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from blocks.loading import load_settings_of
from config.settings import Settings, StoreSettings
from transship.catalog.engine import Catalog
from transship.domain.errors import ConfigurationRefused, StoreMisconfigured
from transship.stores.base import StoreDriver
from transship.stores.pool import DRIVERS

log = structlog.get_logger("transship.stores")


@contextmanager
def using_store(store: str, settings: Settings, catalog: Catalog) -> Iterator[StoreDriver]:
    """Provide the open driver of a store for the duration of a block.

    Raises:
        StoreMisconfigured: no store of that id is configured any more, or its block is invalid.
        StoreUnavailable, StoreDenied: it cannot be opened.
    """
    with DRIVERS.using(store, settings_of_store(store, settings), catalog.id()) as driver:
        yield driver


def settings_of_store(store: str, settings: Settings) -> StoreSettings:
    """Return the current settings of a store from its block.

    Raises:
        StoreMisconfigured: as `using_store`.
    """
    configured = settings.all_stores.get(store)
    if configured is None:
        raise StoreMisconfigured(store, "there is no such store in the settings")
    try:
        return load_settings_of(store, configured)
    except ConfigurationRefused as refused:
        log.error("the settings of a store cannot be used", store=store, reason=str(refused))  # noqa: TRY400 - the trace says no more
        raise StoreMisconfigured(store, refused.for_users) from refused
