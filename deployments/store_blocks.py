"""Block types of stores and of what they share; a block document for each configured store and each shared section.

A document that differs from the configuration was either edited in the Prefect UI or comes from an
older configuration. A Prefect variable holds a digest of the settings applied last, which distinguishes
the two: an edit is kept, an older configuration is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import BlockDocumentUpdate, VariableCreate, VariableUpdate
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import HttpUrl, SecretStr

from blocks import block_class, shared_block_class
from config.settings import Settings
from config.settings.section import plain
from config.settings.stores import SHARED_KINDS, SharedKind, installed_kinds, kind_of
from deployments.change import Action, Change
from transship.stores.documents import document_name

_DIGEST_DIGITS: Final = 16
"""Prefect's variables hold 5000 characters, which must do for a hundred stores."""

APPLIED_VARIABLE: Final = "transship_applied_stores"
"""Prefect variable: what was applied last, by store id; of shared sections, by ``group.name``. See `_digest`."""


LOGO: Final = "/ico/android-chrome-192x192.png"
"""A picture that Prefect's own server has: its client accepts no ``data:`` URL, and browsers may have no internet."""


@dataclass(frozen=True, slots=True)
class _Document:
    """A block document as it is configured.

    Attributes:
        kind: of the object, in the report.
        key: in the variable.
        name: of the document.
        block: its class.
        fields: contents, with secrets wrapped; of a nested block the name of its document, or None.
        references: what its nested blocks are, by field.
    """

    kind: str
    key: str
    name: str
    block: type[Block]
    fields: Mapping[str, object]
    references: Mapping[str, SharedKind]

    @property
    def slug(self) -> str:
        return self.block.get_block_type_slug()

    @property
    def values(self) -> dict[str, Any]:
        """The contents in the form that Prefect returns them, with secrets in the clear."""
        values: dict[str, Any] = json.loads(json.dumps(self.fields, default=plain))
        return values

    def values_in(self, found: BlockDocument) -> dict[str, Any]:
        """Return the contents of the document in Prefect in the same form."""
        nested = {field: found.data.get(field) and _WITHOUT_NAME for field in self.references}
        named = {field: one["block_document"]["name"] for field, one in found.block_document_references.items()}
        return {**found.data, **nested, **named}


_WITHOUT_NAME: Final = "a block without a name"


def _documents(settings: Settings) -> Iterator[_Document]:
    """Yield all documents; what others refer to comes first."""
    for shared in SHARED_KINDS:
        for name, section in getattr(settings, shared.group).items():
            key, fields = f"{shared.group}.{name}", section.model_dump()
            yield _Document("block", key, document_name(name), shared_block_class(shared), fields, {})
    for store_id, store in settings.configured_stores.items():
        kind = kind_of(store)
        fields = kind.document_of(store)
        fields |= {field: fields[field] and document_name(str(fields[field])) for field in kind.references}
        block, name = block_class(kind), document_name(store_id)
        yield _Document("store block", store_id, name, block, fields, kind.references)


async def apply_block_types(client: PrefectClient) -> tuple[Change, ...]:
    """Register every block type, even if no configured store uses it; nested ones first."""
    return tuple([await _register(client, block) for block in _block_classes()])


def wanted_block_types() -> dict[str, Any]:
    """Return what Prefect shows of each type by its slug, and the checksum of its schema."""
    return {
        one.get_block_type_slug(): [one.get_description(), _checksum(one), str(_logo())] for one in _block_classes()
    }


def _block_classes() -> list[type[Block]]:
    return [*map(shared_block_class, SHARED_KINDS), *map(block_class, installed_kinds().values())]


def _logo() -> HttpUrl:
    return HttpUrl(str(get_current_settings().api.url).removesuffix("/api") + LOGO)


def _checksum(block: type[Block]) -> str:
    checksum: str = block._calculate_schema_checksum()  # noqa: SLF001 - the only name that Prefect gives it
    return checksum


async def _register(client: PrefectClient, block: type[Block]) -> Change:
    slug = block.get_block_type_slug()
    action = await _type_action(client, block)
    block._logo_url = _logo()  # noqa: SLF001 - the only name that Prefect gives it
    await block.aregister_type_and_schema(client=client)
    return Change("block type", slug, action)


async def _type_action(client: PrefectClient, block: type[Block]) -> Action:
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
    """Save one block document per shared section and store; keep edited ones unless ``overwrite`` is set."""
    applied = await _applied(client)
    changes: list[Change] = []
    digests: dict[str, str] = {}
    for document in _documents(settings):
        change = await _apply_document(client, document, applied.get(document.key), overwrite=overwrite)
        changes.append(change)
        kept = change.action is Action.KEPT and document.key in applied
        digests[document.key] = applied[document.key] if kept else _digest(document.values)
    await _remember(client, applied, digests)
    return tuple(changes)


async def has_store_blocks(client: PrefectClient, settings: Settings) -> bool:
    """Return whether there is a document for each shared section and configured store, edited or not."""
    read = client.read_block_document_by_name
    try:
        await asyncio.gather(*(read(each.name, each.slug, False) for each in _documents(settings)))
    except ObjectNotFound:
        return False
    return True


def wanted_blocks(settings: Settings) -> dict[str, str]:
    """Return the digest of each document by its key in the variable."""
    return {document.key: _digest(document.values) for document in _documents(settings)}


async def _apply_document(
    client: PrefectClient, document: _Document, applied: str | None, *, overwrite: bool
) -> Change:
    name = f"{document.slug}/{document.name}"
    try:
        there = await client.read_block_document_by_name(document.name, document.slug)
    except ObjectNotFound:
        # Another host may have created it meanwhile.
        await _save(client, document)
        return Change(document.kind, name, Action.CREATED)
    dropped = [field for field in document.references if field not in there.data]
    found = document.values_in(there) | {field: document.values[field] for field in dropped}
    if dropped:
        references = await _references(client, document, dropped)
        await client.update_block_document(there.id, BlockDocumentUpdate(data=references))
    if found == document.values:
        detail = ", ".join(f"{field}: its reference was lost" for field in dropped)
        return Change(document.kind, name, Action.UPDATED if dropped else Action.UNCHANGED, detail)
    edited = applied is None or _digest(found) != applied[:_DIGEST_DIGITS]
    if edited and not overwrite:
        return Change(document.kind, name, Action.KEPT, _difference(found, document))
    await _save(client, document)
    return Change(document.kind, name, Action.UPDATED, _difference(found, document))


async def _save(client: PrefectClient, document: _Document) -> None:
    nested = {
        field: await shared_block_class(shared).aload(str(document.fields[field]), client=client)
        for field, shared in document.references.items()
        if document.fields[field] is not None
    }
    await document.block.model_validate({**document.fields, **nested}).asave(
        document.name, overwrite=True, client=client
    )


async def _references(client: PrefectClient, document: _Document, fields: Sequence[str]) -> dict[str, Any]:
    """Return the contents of fields that refer to nested blocks."""
    references: dict[str, Any] = {}
    for field in fields:
        name = document.values[field]
        found = name and await client.read_block_document_by_name(name, document.references[field].slug, False)
        references[field] = found and {"$ref": {"block_document_id": str(found.id)}}
    return references


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


def _digest(values: Mapping[str, Any]) -> str:
    """Return the beginning of a SHA-256 of a document's values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_DIGEST_DIGITS]


def _difference(found: Mapping[str, Any], document: _Document) -> str:
    wanted = document.values
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(
        f"{name}: a secret that differs"
        if isinstance(document.fields.get(name, SecretStr("")), SecretStr)  # an unknown field may be one too
        else f"{name}: {found.get(name)!r} in Prefect, {wanted.get(name)!r} configured"
        for name in names
    )
