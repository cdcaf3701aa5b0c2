"""Current settings of a store from its block in Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx
import structlog
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import ValidationError

from config.settings import StoreSettings
from config.settings.stores import StoreKind, installed_kinds, kind_of
from transship.domain.errors import ConfigurationRefused
from transship.stores.documents import document_name

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


def load_settings_of(store_id: str, configured: StoreSettings) -> StoreSettings:
    """Return the current settings of a store from its block.

    An edit in the Prefect UI therefore takes effect with the next import. If there is no block, or
    Prefect cannot be reached, the configured settings apply and a warning is logged.

    Raises:
        ConfigurationRefused: the block's settings are invalid.
    """
    try:
        edited = _load(store_id, configured)
    except httpx.HTTPError as error:
        _log.warning("store block not read, using the configured settings", store=store_id, reason=str(error))
        return configured
    if edited is None:
        _log.warning("store has no block, using the configured settings", store=store_id)
        return configured
    return edited


def _load(store_id: str, configured: StoreSettings) -> StoreSettings | None:
    if get_current_settings().api.url is None:
        return None  # asking now would start a Prefect server of its own in this process
    name = document_name(store_id)
    with get_client(sync_client=True) as client:
        for kind in _likely_first(configured):
            try:
                document = client.read_block_document_by_name(name, kind.slug)
            except ObjectNotFound:
                continue
            try:
                return kind.settings_of(document.data)
            except ValidationError as error:
                raise ConfigurationRefused(f"Prefect block {kind.slug}/{name}", *_first_fault(error)) from error
    return None


def _likely_first(configured: StoreSettings) -> Iterator[StoreKind]:
    likely = kind_of(configured)
    yield likely
    yield from (kind for kind in installed_kinds().values() if kind != likely)


def _first_fault(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_input=False, include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
