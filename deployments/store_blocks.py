"""Block types of stores, and one block document per configured store.

A document that differs from the configuration was either edited in the Prefect UI or comes from an
older configuration. A Prefect variable holds a digest of the settings applied last, which distinguishes
the two: an edit is kept, an older configuration is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import HttpUrl, SecretStr

from blocks import ImageStore, block_class, block_of
from config.settings import Settings, StoreSettings
from config.settings.section import plain
from config.settings.stores import installed_kinds, kind_of
from deployments.change import Action, Change
from transship.stores.documents import document_name

APPLIED_VARIABLE: Final = "transship_applied_stores"
"""Prefect variable: SHA-256 of the settings applied last, by store id."""


LOGO: Final = "/ico/android-chrome-192x192.png"
"""A picture that Prefect's own server has: its client accepts no ``data:`` URL, and browsers may have no internet."""


async def apply_block_types(client: PrefectClient) -> tuple[Change, ...]:
    """Register every type of store block, even if no configured store uses it."""
    return tuple([await _register(client, block_class(kind)) for kind in installed_kinds().values()])


def wanted_block_types() -> dict[str, Any]:
    """Return what Prefect shows of each type by its slug, and the checksum of its schema."""
    blocks = [block_class(kind) for kind in installed_kinds().values()]
    return {one.get_block_type_slug(): [one.get_description(), _checksum(one), str(_logo())] for one in blocks}


def _logo() -> HttpUrl:
    return HttpUrl(str(get_current_settings().api.url).removesuffix("/api") + LOGO)


def _checksum(block: type[ImageStore]) -> str:
    checksum: str = block._calculate_schema_checksum()  # noqa: SLF001 - the only name that Prefect gives it
    return checksum


async def _register(client: PrefectClient, block: type[ImageStore]) -> Change:
    slug = block.get_block_type_slug()
    action = await _type_action(client, block)
    block._logo_url = _logo()  # noqa: SLF001 - the only name that Prefect gives it
    await block.aregister_type_and_schema(client=client)
    return Change("block type", slug, action)


async def _type_action(client: PrefectClient, block: type[ImageStore]) -> Action:
    try:
        found = await client.read_block_type_by_slug(block.get_block_type_slug())
    except ObjectNotFound:
        return Action.CREATED
    if found.logo_url != _logo():
        return Action.UPDATED
    try:
        await client.read_block_schema_by_checksum(
            _checksum(block),
            version=block.get_block_schema_version(),
        )
    except ObjectNotFound:
        return Action.UPDATED
    return Action.UNCHANGED


async def apply_store_blocks(client: PrefectClient, settings: Settings, *, overwrite: bool) -> tuple[Change, ...]:
    """Save one block document per configured store; keep edited ones unless ``overwrite`` is set."""
    applied = await _applied(client)
    changes: list[Change] = []
    digests: dict[str, str] = {}
    for store_id, store in settings.all_stores.items():
        change = await _apply_document(client, store_id, store, applied.get(store_id), overwrite=overwrite)
        changes.append(change)
        kept = change.action is Action.KEPT and store_id in applied
        digests[store_id] = applied[store_id] if kept else _digest(_values(store))
    await _remember(client, applied, digests)
    return tuple(changes)


async def has_store_blocks(client: PrefectClient, settings: Settings) -> bool:
    """Return whether there is a document for each configured store, edited or not."""
    read = client.read_block_document_by_name
    try:
        await asyncio.gather(
            *(read(document_name(id_), kind_of(store).slug, False) for id_, store in settings.all_stores.items())
        )
    except ObjectNotFound:
        return False
    return True


def wanted_blocks(settings: Settings) -> dict[str, str]:
    """Return the digest of each store's document by the store's id."""
    return {store_id: _digest(_values(store)) for store_id, store in settings.all_stores.items()}


async def _apply_document(
    client: PrefectClient, store_id: str, store: StoreSettings, applied: str | None, *, overwrite: bool
) -> Change:
    slug, document = kind_of(store).slug, document_name(store_id)
    name = f"{slug}/{document}"
    wanted = _values(store)
    try:
        found = (await client.read_block_document_by_name(document, slug)).data
    except ObjectNotFound:
        # Another host may have created it meanwhile.
        await block_of(store).asave(document, overwrite=True, client=client)
        return Change("store block", name, Action.CREATED)
    if found == wanted:
        return Change("store block", name, Action.UNCHANGED)
    edited = _digest(found) != applied
    if edited and not overwrite:
        return Change("store block", name, Action.KEPT, _difference(found, store))
    await block_of(store).asave(document, overwrite=True, client=client)
    return Change("store block", name, Action.UPDATED, _difference(found, store))


async def _applied(client: PrefectClient) -> dict[str, str]:
    variable = await client.read_variable_by_name(APPLIED_VARIABLE)
    if variable is None or not isinstance(variable.value, dict):
        return {}
    return {str(store_id): str(digest) for store_id, digest in variable.value.items()}


async def _remember(client: PrefectClient, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    together = {**before, **now}
    if together == before:
        return
    if await client.read_variable_by_name(APPLIED_VARIABLE) is None:
        await client.create_variable(VariableCreate(name=APPLIED_VARIABLE, value=together, tags=["transship"]))
    else:
        await client.update_variable(VariableUpdate(name=APPLIED_VARIABLE, value=together))


def _values(store: StoreSettings) -> dict[str, Any]:
    """Return the contents of a store's document in the form that Prefect returns them, with secrets in the clear."""
    values: dict[str, Any] = json.loads(json.dumps(kind_of(store).document_of(store), default=plain))
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _difference(found: Mapping[str, Any], store: StoreSettings) -> str:
    wanted, document = _values(store), kind_of(store).document_of(store)
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(
        f"{name}: a secret that differs"
        if isinstance(document.get(name), SecretStr)
        else f"{name}: {found.get(name)!r} in Prefect, {wanted.get(name)!r} configured"
        for name in names
    )
