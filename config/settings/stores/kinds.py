"""The table of store kinds. Whoever must know what belongs to a kind asks here; nobody else names one.

A kind that another distribution brings joins by an entry point of the group ``transship.store_kinds``, whose name is
the kind's and whose object is its `StoreKind`. It is looked for when a kind is named that is not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Final

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from config.settings.stores import file
from config.settings.stores.kind import BLOCK_PREFIX, TYPE, StoreKind, StoreSettings
from transship.domain.placement import StoreFacts

GROUP: Final = "transship.store_kinds"
DEFAULT_KIND: Final = file.KIND.name
"""Kind of a store that names none."""

KINDS: Final[Mapping[str, StoreKind]] = {kind.name: kind for kind in (file.KIND,)}
"""The kinds that come with Transship, by name."""


def kind_named(name: str) -> StoreKind | None:
    """Return the kind of that name; None if none is installed.

    Raises:
        ImportError: another distribution should bring it, and its module is broken.
    """
    return KINDS.get(name) or _from_elsewhere(name)


def kind_of(settings: StoreSettings) -> StoreKind:
    """Return the kind of a store.

    Raises:
        LookupError: no such kind is installed; settings of it cannot have been validated in this environment.
    """
    kind = kind_named(settings.type)
    if kind is None:
        raise LookupError(settings.type)
    return kind


def store_facts(store_id: str, settings: StoreSettings, *, default: bool) -> StoreFacts:
    """Return what everybody may know of a store."""
    return StoreFacts(
        store_id, settings.type, settings.description, settings.weight, kind_of(settings).read_only, default
    )


def kind_of_block(slug: str) -> StoreKind | None:
    """Return the kind whose blocks have that type; None if none is installed."""
    kind = kind_named(slug.removeprefix(BLOCK_PREFIX))
    return kind if kind is not None and kind.slug == slug else None


def installed_kinds() -> Mapping[str, StoreKind]:
    """Return all kinds by name; looks through all distributions. None replaces a kind that comes with Transship."""
    return {**{entry.name: entry.load() for entry in entry_points(group=GROUP)}, **KINDS}


@cache
def _from_elsewhere(name: str) -> StoreKind | None:
    return next((entry.load() for entry in entry_points(group=GROUP, name=name)), None)


def _of_its_kind(value: object, info: ValidationInfo) -> object:
    """Validate the options of a store with the settings class of the kind that it names."""
    if not isinstance(value, Mapping):
        return value
    name = value.get(TYPE, DEFAULT_KIND)
    kind = kind_named(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(f"'{each}'" for each in KINDS)
        fault = PydanticCustomError("store_kind", "is no kind of store; there is {known}", {"known": known})
        raise ValidationError.from_exception_data("store", [{"type": fault, "loc": (TYPE,), "input": name}])
    return kind.settings.model_validate(value, context=info.context)


AnyStore = Annotated[SerializeAsAny[StoreSettings], BeforeValidator(_of_its_kind)]
"""Settings of a store of any kind."""
