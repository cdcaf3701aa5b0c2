"""The stores that the files of a Glance set up, in sections of their own or in ``[glance_store]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from oslo_config import types

from config.glance.files import Entry
from config.glance.findings import Findings, GlanceValue
from config.glance.options import COMMON_STORE_OPTIONS, DEFAULT_SECTION
from config.glance.readers import read_plain_list
from config.settings.stores import KINDS, GlanceFacts, kind_named
from transship.domain.errors import ConfigurationRefused

STORES: Final = "glance_store"
_OTHER_TYPE: Final = "take it out, or give it another type"
BACKENDS: Final = (DEFAULT_SECTION, "enabled_backends")
_SHARED: Final = "backend_defaults"
_SINGLE_STORE: Final = (
    *("default_store", "stores"),
    *(name for kind in KINDS.values() if kind.glance for name in kind.glance.set_up_by),
)
_INSTEAD: Final[Mapping[str, str]] = {
    "default_store": "default_backend names the default store",
    "stores": "it names the stores",
}


def read_stores(found: Findings, *, multi_store: bool) -> None:
    """Take the stores that the files name.

    Args:
        multi_store: ``enabled_backends`` names them; else there is one, if anything says so.
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
        found.refused.append(entry.refused(f"{error}, found {entry.text!r}", "write it as id:type, id:type"))
        return
    if (STORES, "default_backend") not in found.entries:
        reason = "must name the default store when enabled_backends is set"
        option, remedy = f"[{STORES}] default_backend", f"one of {', '.join(backends)}"
        found.refused.append(ConfigurationRefused(str(entry.file), option, reason, remedy))
    for store_id, kind in backends.items():
        facts = _glance_facts(kind)
        if facts is None:
            found.refused.append(entry.refused(f"store {store_id} is of {_unserved(kind)}", _OTHER_TYPE))
        else:
            _read_store(found, facts, store_id, kind, entry, (store_id.lower(), _SHARED))


def _read_single_store(found: Findings) -> None:
    named = found.entries.get((STORES, "default_store"))
    source = named or next(found.entries[STORES, name] for name in _SINGLE_STORE if (STORES, name) in found.entries)
    try:
        kind = _type_of(found.text_of(named).strip()) if named else "file"
        listed = _listed_stores(found)
    except ValueError as error:
        found.refused.append(source.refused(str(error)))
        return
    facts = _glance_facts(kind)
    if facts is None:
        found.refused.append(source.refused(f"the store is of {_unserved(kind)}", _OTHER_TYPE))
        return
    if listed is not None and kind not in listed:
        told = f"default_store is {kind}, which [{STORES}] stores does not name: {', '.join(listed)}"
        found.refused.append(source.refused(told))
        return
    found.values.append(GlanceValue(("default_store",), kind, source.origin))
    found.warn(source, f"enabled_backends is not set: the one store is served under the id {kind}")
    _read_store(found, facts, kind, kind, source, (STORES,))


def _listed_stores(found: Findings) -> list[str] | None:
    """Return the types that ``stores`` names, None without it; those that are not served are warned of.

    Raises:
        ValueError: it cannot be read.
    """
    entry = found.entries.get((STORES, "stores"))
    if entry is None:
        return None
    reading = read_plain_list(found.text_of(entry))
    listed = [_type_of(name) for name in reading.value] if isinstance(reading.value, list) else []
    others = [each for each in listed if _glance_facts(each) is None]
    unserved = (f"{', '.join(others)}: not served by this release",) if others else ()
    for text in (*reading.warnings, *unserved):
        found.warn(entry, text)
    return listed


def _note_unused_single_store(found: Findings) -> None:
    for (section, name), entry in found.entries.items():
        if section == STORES and name != "default_backend":
            told = "has no effect, as in Glance, because enabled_backends is set"
            found.warn(entry, f"{told}: {_INSTEAD.get(name, 'a store has its options in a section of its own')}")


def _read_store(
    found: Findings, facts: GlanceFacts, store_id: str, kind: str, source: Entry, sections: Sequence[str]
) -> None:
    found.values.append(GlanceValue(("stores", store_id, "type"), kind, source.origin))
    for option in (*facts.options, *COMMON_STORE_OPTIONS):
        entry = found.first(sections, option.name)
        if entry is not None:
            found.map(option, entry, store_id)
        elif option.required:
            reason = f"is needed by store {store_id} of type {kind}, and not set"
            refused = ConfigurationRefused(str(source.file), f"[{sections[0]}] {option.name}", reason)
            found.refused.append(refused)
    for ignored in facts.ignored:
        entry = found.first(sections, ignored.name)
        if entry is not None:
            found.ignore(entry, ignored.reason)


def _type_of(name: str) -> str:
    return next((kind.name for kind in KINDS.values() if kind.glance and name in kind.glance.names), name)


def _glance_facts(name: str) -> GlanceFacts | None:
    """Return what the files say of stores of a type; None if it is not served."""
    kind = kind_named(name)
    return kind.glance if kind else None


def _unserved(kind: str) -> str:
    served = ", ".join(name for name, each in KINDS.items() if each.glance)
    return f"type {kind}, which this release does not serve; served: {served}"
