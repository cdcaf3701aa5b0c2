"""Copying store settings that were edited in the Prefect UI into the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from config.settings import FileStoreSettings
from transship.catalog.stores import forget_store, mirror_store, mirrored_stores
from transship.domain.clock import utc_now
from transship.domain.errors import TransferFailed
from transship.keeper.keeper import Keeper
from transship.stores.table import document_name
from transship.stores_in_force import explained, prepare_store

log = structlog.get_logger("transship.keeper")


def mirror_stores(keeper: Keeper) -> int:
    """Copy store settings that were edited in the Prefect UI into the catalogue; return how many changed."""
    documents = {str(document["name"]): document for document in keeper.prefect.store_blocks()}
    found = {
        store_id: settings_of_block(documents[document_name(store_id)])
        for store_id in keeper.settings.all_stores
        if document_name(store_id) in documents
    }
    wanted = {store_id: settings_json for store_id, settings_json in found.items() if settings_json is not None}
    changed = 0
    with keeper.catalog.read() as connection:
        kept = mirrored_stores(connection, keeper.catalog)
    for store_id, settings_json in wanted.items():
        if kept.get(store_id) != settings_json:
            _prepare_edited(keeper, store_id, settings_json)
            with keeper.catalog.write() as connection:
                mirror_store(connection, keeper.catalog, store_id, settings_json, utc_now())
            changed += 1
    for store_id in kept.keys() - wanted.keys():
        with keeper.catalog.write() as connection:
            forget_store(connection, store_id)
        changed += 1
    return changed


def _prepare_edited(keeper: Keeper, store_id: str, settings_json: str) -> None:
    """Prepare the directory that an edit may have named; what cannot be prepared stays unused until it is."""
    settings = FileStoreSettings.model_validate_json(settings_json)
    try:
        if prepare_store(keeper.catalog, store_id, settings):
            log.info("store prepared", store=store_id, directory=str(settings.dir))
    except TransferFailed as fault:
        log.warning("store not prepared", store=store_id, reason=explained(fault, settings))


def settings_of_block(document: Mapping[str, Any]) -> str | None:
    """Return the store settings of a block document as JSON, None (and a logged warning) when they cannot be used."""
    held = document["data"]
    try:
        settings = FileStoreSettings.model_validate(
            {
                "dir": held["directory"],
                "description": held.get("description", ""),
                "weight": held.get("weight", 0),
                "file_mode": held.get("file_mode", "0640"),
            }
        )
    except (KeyError, ValueError) as error:
        log.warning("store block cannot be used", block=document.get("name"), reason=type(error).__name__)
        return None
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)
