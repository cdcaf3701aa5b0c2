"""The table of store kinds. Other code looks up whatever depends on a kind here, and names no kinds itself.

Another distribution can provide a kind through an entry point in the group ``transship.store_kinds``, whose name is
the kind's and whose object is its `StoreKind`. Entry points are searched for kinds that are not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Final

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails

from config.settings.stores import file, http, rbd, s3
from config.settings.stores.kind import BLOCK_PREFIX, TYPE, SharedKind, StoreKind, StoreSettings
from transship.domain.errors import ValueRefused
from transship.domain.placement import StoreFacts

GROUP: Final = "transship.store_kinds"
DEFAULT_KIND: Final = file.KIND.name
"""Default kind of a store."""

KINDS: Final[Mapping[str, StoreKind]] = {kind.name: kind for kind in (file.KIND, http.KIND, rbd.KIND, s3.KIND)}
"""The kinds that come with Transship, by name."""

SHARED_KINDS: Final[tuple[SharedKind, ...]] = (s3.CREDENTIALS,)
"""The groups of settings that stores can refer to."""


def kind_named(name: str) -> StoreKind | None:
    """Return the kind with that name; None if none is installed.

    Raises:
        ImportError: another distribution provides it, but its module cannot be imported.
    """
    return KINDS.get(name) or _from_elsewhere(name)


def kind_of(settings: StoreSettings) -> StoreKind:
    """Return the kind of a store.

    Raises:
        LookupError: the kind is not installed, so its settings cannot have been validated in this environment.
    """
    kind = kind_named(settings.type)
    if kind is None:
        raise LookupError(settings.type)
    return kind


def store_facts(store_id: str, settings: StoreSettings, *, default: bool) -> StoreFacts:
    """Return the public facts about a store."""
    return StoreFacts(
        store_id, settings.type, settings.description, settings.weight, kind_of(settings).read_only, default
    )


def kind_of_block(slug: str) -> StoreKind | None:
    """Return the kind with that block type; None if none is installed."""
    kind = kind_named(slug.removeprefix(BLOCK_PREFIX))
    return kind if kind is not None and kind.slug == slug else None


def installed_kinds() -> Mapping[str, StoreKind]:
    """Return all kinds by name, searching all distributions. No distribution can replace a built-in kind."""
    return {**{entry.name: entry.load() for entry in entry_points(group=GROUP)}, **KINDS}


@cache
def _from_elsewhere(name: str) -> StoreKind | None:
    return next((entry.load() for entry in entry_points(group=GROUP, name=name)), None)


def _of_its_kind(value: object, info: ValidationInfo) -> object:
    """Validate the options of a store with the settings class of its kind."""
    if not isinstance(value, Mapping):
        return value
    name = value.get(TYPE, DEFAULT_KIND)
    kind = kind_named(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(f"'{each}'" for each in KINDS)
        refused = ValueRefused("is not a kind of store", f"choose from {known}")
        fault: InitErrorDetails = {"type": "value_error", "loc": (TYPE,), "input": name, "ctx": {"error": refused}}
        raise ValidationError.from_exception_data("store", [fault])
    return kind.settings.model_validate(value, context=info.context)


AnyStore = Annotated[SerializeAsAny[StoreSettings], BeforeValidator(_of_its_kind)]
"""Settings of a store of any kind."""
