"""The definition of a store kind, and the settings common to all kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from config.glance.option import IgnoredOption, MappedOption
from config.settings.section import WHOLE_PATHS, Section
from transship.domain.verification import Verification

TYPE: Final = "type"
"""The option that names the kind of a store; in a block the block's type names it instead."""


BLOCK_PREFIX: Final = "image-store-"


class StoreSettings(Section):
    """A store. Each kind has a subclass whose ``type`` can only be the kind's name."""

    type: str = Field(description="Kind of the store.")
    description: str = Field("", description="Description of the store in one line.")
    weight: int = Field(0, description="Stores with a higher weight are preferred for reads and listed first.")
    verify: Verification = Field(
        Verification.SAMPLE,
        description="What is read back of each new copy before the image becomes active. none: nothing; sample: its"
        " size and eight samples; full: its size and all bytes.",
    )

    def directories(self) -> Mapping[str, Sequence[Path]]:
        """Return the directories that must not be used by anything else, by option."""
        return {}


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """How a kind of store is shown in the Prefect UI. The fields of its block are the options of its settings.

    Attributes:
        description: one sentence.
        documentation: URL of a page about such stores.
        names: names in the block for options whose names differ there.
    """

    description: str
    documentation: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GlanceFacts:
    """Glance's options for stores of a kind.

    Attributes:
        options: those that map to options of the store, in addition to those common to all kinds.
        ignored: those that are known but have no effect.
        names: of the kind in ``[glance_store]``, if different from its name.
        set_up_by: options of ``[glance_store]`` that define such a store without naming its kind.
    """

    options: tuple[MappedOption, ...] = ()
    ignored: tuple[IgnoredOption, ...] = ()
    names: tuple[str, ...] = ()
    set_up_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SharedKind:
    """A group of settings that several stores may refer to by its name, e.g. credentials: a block in Prefect.

    Attributes:
        group: option of the settings that has the sections by name.
        settings: options of a section.
        block: how it is shown in the Prefect UI.
    """

    group: str
    settings: type[Section]
    block: BlockFacts

    @property
    def slug(self) -> str:
        """Prefect's name for its block type."""
        return self.group.replace("_", "-")

    @property
    def title(self) -> str:
        """Name of its block type in the Prefect UI."""
        return self.group.replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True, eq=False)
class StoreKind:
    """A kind of store: the table row with everything about it.

    Attributes:
        name: value of the option ``type``; lower-case letters, digits and dashes.
        settings: options of its stores.
        driver: ``module:callable`` that creates a `transship.stores.base.StoreDriver` from a store's id, its settings
            and the catalogue's id; imported when such a store is used.
        block: how it is shown in the Prefect UI.
        glance: Glance's options for its stores; None: Glance does not have such stores.
        read_only: whether its stores are never written to.
        references: options that name a shared section, and have the same name in the block, where they are a nested
            block; a driver gets the section itself.
    """

    name: str
    settings: type[StoreSettings]
    driver: str
    block: BlockFacts
    glance: GlanceFacts | None = None
    read_only: bool = False
    references: Mapping[str, SharedKind] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Prefect's name for its block type."""
        return BLOCK_PREFIX + self.name

    def block_fields(self) -> Mapping[str, str]:
        """Return the options in a block, in order, by their names there."""
        return {self.block.names.get(option, option): option for option in self.settings.model_fields if option != TYPE}

    def settings_of(self, document: Mapping[str, object]) -> StoreSettings:
        """Return the settings in a block document.

        Paths must be absolute, because processes with different working directories read the document.

        Raises:
            ValidationError: they are invalid, or Prefect has dropped a reference, because its block was deleted: the
                field is missing then. The error has the document's names for the options, and no values.
        """
        dropped = [_fault(_DROPPED, (name,)) for name in self.references if name not in document]
        if dropped:
            raise ValidationError.from_exception_data(self.slug, dropped)
        options = self.block_fields()
        values = {option: document[name] for name, option in options.items() if name in document}
        values |= {option: values[option] or "" for option in self.references}
        try:
            return self.settings.model_validate({**values, TYPE: self.name}, context={WHOLE_PATHS: True})
        except ValidationError as error:
            names = {option: name for name, option in options.items()}
            faults = [_renamed(fault, names) for fault in error.errors(include_input=False, include_url=False)]
            raise ValidationError.from_exception_data(self.slug, faults) from None

    def document_of(self, settings: StoreSettings) -> dict[str, object]:
        """Return the contents of the block document for these settings, with secrets still wrapped.

        A shared section is a mapping; of configured settings it is only its name. None: there is none.
        """
        document = {name: getattr(settings, option) for name, option in self.block_fields().items()}
        for name in self.references:
            shared = document[name]
            document[name] = shared.model_dump() if isinstance(shared, Section) else shared or None
        return document


_DROPPED: Final = "Prefect has dropped the reference; choose a block or None, or run 'transship deploy'"


def _renamed(fault: ErrorDetails, names: Mapping[str, str]) -> InitErrorDetails:
    reason = str(fault.get("ctx", {}).get("error", fault["msg"]))
    return _fault(reason, tuple(names.get(str(part), part) for part in fault["loc"]))


def _fault(reason: str, place: tuple[str | int, ...]) -> InitErrorDetails:
    return {
        "type": PydanticCustomError("store_option", "{reason}", {"reason": reason}),
        "loc": place,
        "input": None,
    }


def store_limit_name(store: str) -> str:
    """Return the name of Prefect's global concurrency limit for a store."""
    return f"store-{store}"
