"""The driver of a store, as its block in Prefect describes it now."""

from __future__ import annotations

import structlog

from blocks.loading import load_store
from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.domain.errors import ConfigurationRefused, StoreMisconfigured
from transship.stores.base import StoreDriver

log = structlog.get_logger("transship.stores")


def store_driver(store: str, settings: Settings, catalog: Catalog) -> StoreDriver:
    """Return the driver of a store.

    Raises:
        StoreMisconfigured: no store of that id is configured any more, or its block cannot be used.
    """
    configured = settings.all_stores.get(store)
    if configured is None:
        raise StoreMisconfigured(store, "it is not configured any more")
    try:
        return load_store(store, configured, catalog.id())
    except ConfigurationRefused as refused:
        log.error("the settings of a store cannot be used", store=store, reason=str(refused))  # noqa: TRY400 - the trace says no more
        raise StoreMisconfigured(store, refused.for_users) from refused
