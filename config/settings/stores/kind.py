"""What a kind of store consists of, and what the settings of all kinds have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from config.glance.option import IgnoredOption, MappedOption
from config.settings.section import WHOLE_PATHS, Section

TYPE: Final = "type"
"""The option that names the kind of a store; a block names it by its own type instead."""


BLOCK_PREFIX: Final = "image-store-"


class StoreSettings(Section):
    """A store. Each kind has a subclass that says which values ``type`` may have: the kind's name alone."""

    type: str = Field(description="Kind of the store.")
    description: str = Field("", description="One line for people.")
    weight: int = Field(0, description="Higher is preferred for reads and stands first in lists.")

    def directories(self) -> Mapping[str, Path]:
        """Return the directories that no other user may share, by the option that names each."""
        return {}


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """How a kind of store looks in the Prefect UI. The fields of its block are the options of its settings.

    Attributes:
        description: one sentence.
        documentation: URL of a page about such stores.
        names: options that the block calls otherwise.
    """

    description: str
    documentation: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GlanceFacts:
    """What the files of a Glance say of stores of a kind.

    Attributes:
        options: those that become options of the store, beside those that stores of all kinds have.
        ignored: those that are known and have no effect.
        names: of the kind in ``[glance_store]``, where they are not its name.
    """

    options: tuple[MappedOption, ...] = ()
    ignored: tuple[IgnoredOption, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StoreKind:
    """A kind of store: the one row in which everything that belongs to it is named.

    Attributes:
        name: value of the option ``type``; lower-case letters, digits and dashes.
        settings: options of its stores.
        driver: ``module:callable`` that makes a `transship.stores.base.StoreDriver` of a store's id, its settings and
            the catalogue's id; imported when such a store is used.
        block: how it looks in the Prefect UI.
        glance: options of a Glance from which its stores are set up; None: no Glance has such stores.
        read_only: nothing is ever written to its stores.
    """

    name: str
    settings: type[StoreSettings]
    driver: str
    block: BlockFacts
    glance: GlanceFacts | None = None
    read_only: bool = False

    @property
    def slug(self) -> str:
        """The name that Prefect has for the type of its blocks."""
        return BLOCK_PREFIX + self.name

    def block_fields(self) -> Mapping[str, str]:
        """Return the options that a block shows, in order, by the name that the block has for each."""
        return {self.block.names.get(option, option): option for option in self.settings.model_fields if option != TYPE}

    def settings_of(self, document: Mapping[str, object]) -> StoreSettings:
        """Return the settings that a block document holds.

        Paths must be absolute: a document is read by many processes, each with a working directory of its own.

        Raises:
            ValidationError: they cannot be used. The document's own names stand in it, and no value.
        """
        options = self.block_fields()
        values = {option: document[name] for name, option in options.items() if name in document}
        try:
            return self.settings.model_validate({**values, TYPE: self.name}, context={WHOLE_PATHS: True})
        except ValidationError as error:
            names = {option: name for name, option in options.items()}
            faults = [_renamed(fault, names) for fault in error.errors(include_input=False, include_url=False)]
            raise ValidationError.from_exception_data(self.slug, faults) from None

    def document_of(self, settings: StoreSettings) -> dict[str, object]:
        """Return what the block document of these settings holds, secrets still wrapped up."""
        return {name: getattr(settings, option) for name, option in self.block_fields().items()}


def _renamed(fault: ErrorDetails, names: Mapping[str, str]) -> InitErrorDetails:
    return {
        "type": PydanticCustomError("store_option", "{reason}", {"reason": fault["msg"]}),
        "loc": tuple(names.get(str(part), part) for part in fault["loc"]),
        "input": None,
    }


def store_limit_name(store: str) -> str:
    """Return the name of Prefect's global concurrency limit of a store."""
    return f"store-{store}"
