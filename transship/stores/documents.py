"""How a store's settings are serialized, and which block document in Prefect holds them."""

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
    """Return a store's settings as JSON with secrets in the clear; equal settings give equal texts."""
    return json.dumps(settings.model_dump(), default=plain, sort_keys=True)


def settings_from(text: str) -> StoreSettings:
    """Parse the output of `settings_text`.

    Raises:
        ValidationError: the settings are invalid.
    """
    return _ANY_STORE.validate_json(text)


def document_name(store_id: str) -> str:
    """Return the name of a store's block document: the store id, changed as Prefect requires.

    In an id with characters other than lower-case letters, digits and dashes, dashes replace them and 8 characters
    of the id's SHA-256 are appended, so two ids never share a name.
    """
    plain_name = re.sub(r"[^a-z0-9-]", "-", store_id.lower())
    if plain_name == store_id:
        return store_id
    return f"{plain_name}-{hashlib.sha256(store_id.encode()).hexdigest()[:8]}"


def document_among(
    documents: Iterable[Mapping[str, Any]], store_id: str, configured: StoreSettings
) -> Mapping[str, Any] | None:
    """Return the block document of a store; of several with its name, the one of its configured kind.

    Args:
        documents: as Prefect's API returns them.
        store_id: id of the store.
        configured: its settings in the configuration.
    """
    slug = kind_of(configured).slug
    named = [document for document in documents if document["name"] == document_name(store_id)]
    return min(named, key=lambda document: bool(document["block_type"]["slug"] != slug), default=None)
