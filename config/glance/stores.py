"""Reads the stores in Glance's files, from a section for each or from ``[glance_store]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from oslo_config import types

from config.gathering import as_refused
from config.glance.files import Entry
from config.glance.findings import Findings, GlanceValue
from config.glance.options import COMMON_STORE_OPTIONS, DEFAULT_SECTION
from config.glance.readers import read_plain_list
from config.settings.stores import KINDS, GlanceFacts, kind_named
from transship.domain.errors import ConfigurationRefused, ValueRefused

STORES: Final = "glance_store"
BACKENDS: Final = (DEFAULT_SECTION, "enabled_backends")
_SHARED: Final = "backend_defaults"
_SINGLE_STORE: Final = (
    *("default_store", "stores"),
    *(name for kind in KINDS.values() if kind.glance for name in kind.glance.set_up_by),
)
_INSTEAD: Final[Mapping[str, str]] = {
    "default_store": "default_backend sets the default store",
    "stores": "enabled_backends lists the stores",
}


def read_stores(found: Findings, *, multi_store: bool) -> None:
    """Add the stores in the files.

    Args:
        multi_store: whether ``enabled_backends`` is set; if not, there is at most one store that can be written.
    """
    if multi_store:
        _read_backends(found, found.entries[BACKENDS])
        _note_unused_single_store(found)
    elif any((STORES, name) in found.entries for name in _SINGLE_STORE):
        _read_single_store(found)


def _read_backends(found: Findings, entry: Entry) -> None:
    try:
        backends = types.Dict()(found.text_of(entry))
    except ValueError as error:
        found.refuse(entry, ValueRefused(as_refused(error).reason, "write it as id:type, id:type"))
        return
    if (STORES, "default_backend") not in found.entries:
        reason = "is required if enabled_backends is set"
        option, remedy = f"[{STORES}] default_backend", f"set it to one of {', '.join(backends)}"
        found.refused.append(ConfigurationRefused(str(entry.file), option, reason, remedy))
    for store_id, kind in backends.items():
        facts = _glance_facts(kind)
        if facts is None:
            found.refused.append(entry.refused(f"store {store_id} is of {_unsupported(kind)}", _other_type()))
        else:
            _read_store(found, facts, store_id, kind, entry, (store_id.lower(), _SHARED))


def _read_single_store(found: Findings) -> None:
    named = found.entries.get((STORES, "default_store"))
    source = named or next(found.entries[STORES, name] for name in _SINGLE_STORE if (STORES, name) in found.entries)
    try:
        kind = _type_of(found.text_of(named).strip()) if named else "file"
        listed = _listed_stores(found)
    except ValueError as error:
        found.refuse(source, error)
        return
    facts = _glance_facts(kind)
    if facts is None:
        found.refused.append(source.refused(f"the store is of {_unsupported(kind)}", _other_type()))
        return
    if listed and kind not in listed:
        reason = f"default_store is {kind}, which is not in [{STORES}] stores"
        found.refused.append(source.refused(reason, f"set it to one of {', '.join(listed)}"))
        return
    found.values.append(GlanceValue(("default_store",), kind, source.origin))
    beside = _read_beside(found, kind, listed)
    ids = f"the stores have the ids {', '.join((kind, *beside))}" if beside else f"the only store has the id {kind}"
    found.warn(source, f"enabled_backends is not set, so {ids}")
    _read_store(found, facts, kind, kind, source, (STORES,))
    for each, its_facts in beside.items():
        _read_store(found, its_facts, each, each, source, (STORES,))


def _read_beside(found: Findings, default: str, listed: Sequence[str]) -> dict[str, GlanceFacts]:
    """Return the listed types that can only be read, which Glance uses beside the default store; warn of others."""
    kinds = {each: kind_named(each) for each in listed if each != default}
    others = [each for each, kind in kinds.items() if kind is None or kind.glance is None]
    unused = [each for each, kind in kinds.items() if each not in others and kind and not kind.read_only]
    for names, why in ((others, "not supported by this release"), (unused, "not used; set enabled_backends for it")):
        if names:
            found.warn(found.entries[STORES, "stores"], f"{', '.join(names)}: {why}")
    return {each: kind.glance for each, kind in kinds.items() if kind and kind.read_only and kind.glance}


def _listed_stores(found: Findings) -> list[str]:
    """Return the types listed in ``stores``; none if it is not set.

    Raises:
        ValueError: it cannot be parsed.
    """
    entry = found.entries.get((STORES, "stores"))
    if entry is None:
        return []
    reading = read_plain_list(found.text_of(entry))
    for text in reading.warnings:
        found.warn(entry, text)
    return [_type_of(name) for name in reading.value] if isinstance(reading.value, list) else []


def _note_unused_single_store(found: Findings) -> None:
    for (section, name), entry in found.entries.items():
        if section == STORES and name != "default_backend":
            instead = _INSTEAD.get(name, "the options of a store belong in its own section")
            found.warn(entry, f"has no effect, as in Glance, because enabled_backends is set; {instead}")


def _read_store(
    found: Findings, facts: GlanceFacts, store_id: str, kind: str, source: Entry, sections: Sequence[str]
) -> None:
    found.values.append(GlanceValue(("stores", store_id, "type"), kind, source.origin))
    described = kind_named(kind)
    for reference in described.references if described else ():
        found.values.append(GlanceValue(("stores", store_id, reference), store_id, source.origin))
    for option in (*facts.options, *COMMON_STORE_OPTIONS):
        entry = found.first(sections, option.name)
        if entry is not None:
            found.map(option, entry, store_id)
        elif option.required and not found.first(sections, option.instead):
            reason = f"is required by store {store_id} of type {kind} but not set"
            refused = ConfigurationRefused(str(source.file), f"[{sections[0]}] {option.name}", reason)
            found.refused.append(refused)
    for ignored in facts.ignored:
        entry = found.first(sections, ignored.name)
        if entry is not None:
            found.pass_over(entry, ignored)


def _type_of(name: str) -> str:
    return next((kind.name for kind in KINDS.values() if kind.glance and name in kind.glance.names), name)


def _glance_facts(name: str) -> GlanceFacts | None:
    """Return Glance's options for a type of store; None if the type is not supported."""
    kind = kind_named(name)
    return kind.glance if kind else None


def _unsupported(kind: str) -> str:
    return f"type {kind}, which this release does not support"


def _other_type() -> str:
    supported = ", ".join(name for name, each in KINDS.items() if each.glance)
    return f"remove it, or change its type; supported: {supported}"
