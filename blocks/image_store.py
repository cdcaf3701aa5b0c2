"""Blocks of image stores. Each kind of store has one, made from its settings and its row in the table of kinds."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, model_validator
from pydantic.fields import FieldInfo

from config.settings import StoreSettings
from config.settings.stores import StoreKind
from transship.stores.base import StoreDriver
from transship.stores.pool import new_driver


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
            cls._kind.settings_of(document)
        return document

    @classmethod
    def of(cls, settings: StoreSettings) -> Self:
        """Return an unsaved block with these settings."""
        return cls.model_validate(cls._kind.document_of(settings))

    def settings(self) -> StoreSettings:
        """Return these settings in the form of the configuration."""
        return self._kind.settings_of({name: getattr(self, name) for name in type(self).model_fields})

    def driver(self, store_id: str, catalog_id: str) -> StoreDriver:
        """Return the driver for these settings in a catalogue; nothing is opened or written yet."""
        return new_driver(store_id, self.settings(), catalog_id)


@cache
def block_class(kind: StoreKind) -> type[ImageStore]:
    """Return the block class of a kind of store; creating the class registers it in Prefect."""
    name = kind.settings.__name__.removesuffix("Settings") + "Block"
    described = {
        each: _described(each, kind.settings.model_fields[option]) for each, option in kind.block_fields().items()
    }

    def fill(body: dict[str, Any]) -> None:
        body.update(
            __module__="blocks",
            __doc__=kind.block.description,
            __annotations__={each: annotation for each, (annotation, _) in described.items()}
            | {"_kind": ClassVar[StoreKind]},
            **{each: field for each, (_, field) in described.items()},
            _kind=kind,
            _block_type_name=f"Image store: {kind.name}",
            _block_type_slug=kind.slug,
            _description=kind.block.description,
            _documentation_url=HttpUrl(kind.block.documentation),
            _code_example=_CODE_EXAMPLE.format(name=name),
        )

    return cast(type[ImageStore], types.new_class(name, (ImageStore,), {}, fill))


_CODE_EXAMPLE = """
```python
from blocks import {name}

store = {name}.load("BLOCK_NAME")
print(store.settings())
```
"""


def _described(name: str, option: FieldInfo) -> tuple[Any, Any]:
    """Return annotation and field of an option as shown by a block."""
    annotation = Annotated[(option.annotation, *option.metadata)] if option.metadata else option.annotation
    title = option.title or name.replace("_", " ").capitalize()
    default: dict[str, Any] = {"default": option.default}
    if option.default_factory is not None:
        default = {"default_factory": option.default_factory}
    return annotation, Field(**default, title=title, description=option.description, examples=option.examples)
