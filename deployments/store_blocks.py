"""Block types of stores, and one block document per configured store.

A document that differs from the configuration was either edited in the Prefect UI, or is what an
older configuration said. A Prefect variable holds a digest of what was applied last, which tells
the two apart: an edit is kept, an older configuration replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectNotFound

from blocks.image_store import ImageStore
from blocks.table import BLOCKS, block_of
from config.settings import Settings
from deployments.change import Action, Change
from transship.stores.table import document_name

APPLIED_VARIABLE: Final = "transship_applied_stores"
"""Prefect variable: SHA-256 of the settings that were applied last, by store id."""


async def apply_block_types(client: PrefectClient) -> tuple[Change, ...]:
    """Register every type of store block, whether a store of it is configured or not."""
    return tuple([await _register(client, block_class) for block_class in BLOCKS.values()])


async def _register(client: PrefectClient, block_class: type[ImageStore]) -> Change:
    slug = block_class.get_block_type_slug()
    action = await _type_action(client, block_class)
    await block_class.aregister_type_and_schema(client=client)
    return Change("block type", slug, action)


async def _type_action(client: PrefectClient, block_class: type[ImageStore]) -> Action:
    try:
        await client.read_block_type_by_slug(block_class.get_block_type_slug())
    except ObjectNotFound:
        return Action.CREATED
    try:
        await client.read_block_schema_by_checksum(
            block_class._calculate_schema_checksum(),  # noqa: SLF001 - the only name that Prefect gives it
            version=block_class.get_block_schema_version(),
        )
    except ObjectNotFound:
        return Action.UPDATED
    return Action.UNCHANGED


async def apply_store_blocks(client: PrefectClient, settings: Settings, *, overwrite: bool) -> tuple[Change, ...]:
    """Save one block document per configured store; keep those that were edited unless told to overwrite."""
    applied = await _applied(client)
    changes: list[Change] = []
    digests: dict[str, str] = {}
    for store_id, store in settings.all_stores.items():
        change = await _apply_document(client, store_id, block_of(store), applied.get(store_id), overwrite=overwrite)
        changes.append(change)
        kept = change.action is Action.KEPT and store_id in applied
        digests[store_id] = applied[store_id] if kept else _digest(_values(block_of(store)))
    await _remember(client, applied, digests)
    return tuple(changes)


async def _apply_document(
    client: PrefectClient, store_id: str, block: ImageStore, applied: str | None, *, overwrite: bool
) -> Change:
    slug, document = block.get_block_type_slug(), document_name(store_id)
    name = f"{slug}/{document}"
    wanted = _values(block)
    try:
        found = (await client.read_block_document_by_name(document, slug)).data
    except ObjectNotFound:
        await block.asave(document, client=client)
        return Change("store block", name, Action.CREATED)
    if found == wanted:
        return Change("store block", name, Action.UNCHANGED)
    edited = _digest(found) != applied
    if edited and not overwrite:
        return Change("store block", name, Action.KEPT, _difference(found, wanted))
    await block.asave(document, overwrite=True, client=client)
    return Change("store block", name, Action.UPDATED, _difference(found, wanted))


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


def _values(block: ImageStore) -> dict[str, Any]:
    return block.model_dump(mode="json", include=set(type(block).model_fields))


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(f"{name}: {found.get(name)!r} in Prefect, {wanted.get(name)!r} configured" for name in names)
