"""Copies store settings that were edited in the Prefect UI to the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from config.settings import StoreSettings
from config.settings.stores import kind_of_block
from transship.catalog.stores import forget_store, mirror_store, mirrored_stores
from transship.domain.clock import utc_now
from transship.domain.errors import TransferFailed
from transship.keeper.keeper import Keeper
from transship.stores.documents import document_among, settings_from, settings_text
from transship.stores_in_force import explained, prepare_store

log = structlog.get_logger("transship.keeper")


def mirror_stores(keeper: Keeper) -> int:
    """Copy store settings that were edited in the Prefect UI to the catalogue; return how many changed."""
    documents = keeper.prefect.store_blocks()
    wanted: dict[str, str] = {}
    for store_id, configured in keeper.settings.all_stores.items():
        document = document_among(documents, store_id, configured)
        text = settings_of_block(document) if document is not None else None
        if text is not None:
            wanted[store_id] = text
    changed = 0
    with keeper.catalog.statement() as connection:
        kept = mirrored_stores(connection, keeper.catalog)
    for store_id, text in wanted.items():
        if kept.get(store_id) != text:
            _prepare_edited(keeper, store_id, settings_from(text))
            with keeper.catalog.statement() as connection:
                mirror_store(connection, keeper.catalog, store_id, text, utc_now())
            changed += 1
    for store_id in kept.keys() - wanted.keys():
        with keeper.catalog.statement() as connection:
            forget_store(connection, store_id)
        changed += 1
    return changed


def _prepare_edited(keeper: Keeper, store_id: str, settings: StoreSettings) -> None:
    """Prepare an edited store, whose location may be new; a store that cannot be prepared is not used until it is."""
    try:
        if prepare_store(keeper.catalog, store_id, settings):
            log.info("store prepared", store=store_id)
    except TransferFailed as fault:
        log.warning("store not prepared", store=store_id, reason=explained(fault, store_id, settings))


def settings_of_block(document: Mapping[str, Any]) -> str | None:
    """Return the store settings of a block document as JSON; log a warning and return None if they are invalid."""
    kind = kind_of_block(document["block_type"]["slug"])
    try:
        return settings_text(kind.settings_of(document["data"])) if kind is not None else None
    except ValidationError as error:
        # Pydantic's text would repeat the input, which may hold keys.
        log.warning("store block cannot be used", block=document.get("name"), faults=error.error_count())
        return None
