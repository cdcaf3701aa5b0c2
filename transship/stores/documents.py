"""How a store's settings are kept as text, and which block document in Prefect holds them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from config.settings import StoreSettings
from config.settings.section import plain
from config.settings.stores import AnyStore, kind_of

_ANY_STORE: Final[TypeAdapter[StoreSettings]] = TypeAdapter(AnyStore)


def settings_text(settings: StoreSettings) -> str:
    """Return a store's settings as JSON, secrets in the clear; the same settings always give the same text."""
    return json.dumps(settings.model_dump(), default=plain, sort_keys=True)


def settings_from(text: str) -> StoreSettings:
    """Return the settings that `settings_text` wrote down.

    Raises:
        ValidationError: they cannot be used.
    """
    return _ANY_STORE.validate_json(text)


def document_name(store_id: str) -> str:
    """Return the name of a store's block document: the store id, or what Prefect's rules leave of it plus a digest.

    Two ids never share a name: one with other characters than lower-case letters, digits and
    dashes gets them replaced by dashes and 8 characters of its SHA-256 appended.
    """
    plain_name = re.sub(r"[^a-z0-9-]", "-", store_id.lower())
    if plain_name == store_id:
        return store_id
    return f"{plain_name}-{hashlib.sha256(store_id.encode()).hexdigest()[:8]}"


def document_among(
    documents: Iterable[Mapping[str, Any]], store_id: str, configured: StoreSettings
) -> Mapping[str, Any] | None:
    """Return the block document of a store: the one of its configured kind if there are several of that name.

    Args:
        documents: as Prefect's API gives them.
        store_id: id of the store.
        configured: its settings in the configuration.
    """
    slug = kind_of(configured).slug
    named = [document for document in documents if document["name"] == document_name(store_id)]
    return min(named, key=lambda document: bool(document["block_type"]["slug"] != slug), default=None)
