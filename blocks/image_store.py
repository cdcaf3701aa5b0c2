"""Blocks of image stores, and of settings that they share. Each is made from its settings and a row of a table."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, model_validator
from pydantic.fields import FieldInfo

from config.settings import StoreSettings
from config.settings.section import Section
from config.settings.stores import BlockFacts, SharedKind, StoreKind
from transship.stores.base import StoreDriver
from transship.stores.pool import new_driver

_Base = TypeVar("_Base", bound=Block)


class ImageStore(Block):
    """Settings of one store, shown and edited in the Prefect UI; the document's name is derived from the store's id.

    All subclasses have the capability ``image-store``.
    """

    _block_schema_capabilities: ClassVar[list[str]] = ["image-store"]
    _kind: ClassVar[StoreKind]

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, document: object) -> object:
        if isinstance(document, Mapping):
            none = dict.fromkeys(cls._kind.references)
            cls._kind.settings_of({**none, **{name: _plain(value) for name, value in document.items()}})
        return document

    @classmethod
    def of(cls, settings: StoreSettings) -> Self:
        """Return an unsaved block with these settings, which are those that a driver gets."""
        return cls.model_validate(cls._kind.document_of(settings))

    def settings(self) -> StoreSettings:
        """Return these settings as a driver gets them."""
        return self._kind.settings_of(_fields_of(self))

    def driver(self, store_id: str, catalog_id: str) -> StoreDriver:
        """Return the driver for these settings in a catalogue; nothing is opened or written yet."""
        return new_driver(store_id, self.settings(), catalog_id)


@cache
def block_class(kind: StoreKind) -> type[ImageStore]:
    """Return the block class of a kind of store; creating the class registers it in Prefect."""
    options, references = kind.settings.model_fields, kind.references
    fields = {
        name: _described(name, options[option], references.get(option)) for name, option in kind.block_fields().items()
    }
    title = f"Image store: {kind.name}"
    return _made(ImageStore, kind.settings, kind.block, title, kind.slug, fields, _kind=kind)


@cache
def shared_block_class(shared: SharedKind) -> type[Block]:
    """Return the block class of settings that stores share; creating the class registers it in Prefect."""
    fields = {name: _described(name, option) for name, option in shared.settings.model_fields.items()}
    return _made(Block, shared.settings, shared.block, shared.title, shared.slug, fields)


def _made(
    base: type[_Base],
    settings: type[Section],
    facts: BlockFacts,
    title: str,
    slug: str,
    fields: Mapping[str, tuple[Any, Any]],
    **attributes: object,
) -> type[_Base]:
    name = settings.__name__.removesuffix("Settings") + "Block"

    def fill(body: dict[str, Any]) -> None:
        body.update(
            __module__="blocks",
            __doc__=facts.description,
            __annotations__={each: annotation for each, (annotation, _) in fields.items()},
            **{each: field for each, (_, field) in fields.items()},
            **attributes,
            _block_type_name=title,
            _block_type_slug=slug,
            _description=facts.description,
            _documentation_url=HttpUrl(facts.documentation),
            _code_example=_CODE_EXAMPLE.format(name=name),
        )

    return cast(type[_Base], types.new_class(name, (base,), {}, fill))


_CODE_EXAMPLE = """
```python
from blocks import {name}

block = {name}.load("BLOCK_NAME")
```
"""


def _described(name: str, option: FieldInfo, shared: SharedKind | None = None) -> tuple[Any, Any]:
    """Return annotation and field of an option as shown by a block; an option that names shared settings is a block."""
    annotation: Any = Annotated[(option.annotation, *option.metadata)] if option.metadata else option.annotation
    title = option.title or name.replace("_", " ").capitalize()
    default: dict[str, Any] = {"default": option.default}
    if option.default_factory is not None:
        default = {"default_factory": option.default_factory}
    if shared is not None:
        annotation, default = shared_block_class(shared) | None, {"default": None}
    return annotation, Field(**default, title=title, description=option.description, examples=option.examples)


def _fields_of(block: Block) -> dict[str, object]:
    return {name: _plain(getattr(block, name)) for name in type(block).model_fields}


def _plain(value: object) -> object:
    """Return the fields of a nested block; any other value unchanged."""
    return _fields_of(value) if isinstance(value, Block) else value
