"""Reads ``glance-image-import.conf`` and ``glance-api.conf`` as a source of settings.

`config.glance.options` defines the options. All errors are collected, so they can be fixed
together; texts that are accepted although they are wrong or have no effect here become notes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from config.gathering import DEFAULT, Gathered
from config.glance.files import Entry, entries_of, files_named
from config.glance.findings import Findings, GlanceValue
from config.glance.option import IgnoredOption, MappedOption
from config.glance.options import (
    AUTH_SECTION,
    DEFAULT_SECTION,
    ELSEWHERE,
    IGNORED,
    LOGIN_OPTIONS,
    OPTIONS,
    SECTION_SPELLINGS,
    STAGING_STORE,
    STAGING_URI,
    WHOLLY_KNOWN,
    canonical_section,
)
from config.glance.policies import read_policies
from config.glance.stores import BACKENDS, STORES, read_stores
from config.glance.substitutes import Key
from config.notes import Note, NoteKind
from config.settings import LOOPBACK_HOSTS
from transship.domain.errors import ConfigurationRefused

_ADDRESS: Final = ("api", "host")
_REFERENCE: Final = re.compile(r"\$\{?(?:\w+\.)?(\w+)")
"""A ``$option`` or ``${section.option}`` in a text; the group is the option."""


@dataclass(frozen=True, slots=True)
class GlanceSettings:
    """The contents of the Glance files.

    Attributes:
        files: files that were read; later ones override earlier ones.
        values: settings.
        notes: for display.
        refused: errors that stop the start; refused options are not in ``values``.
    """

    files: tuple[Path, ...] = ()
    values: tuple[GlanceValue, ...] = ()
    notes: tuple[Note, ...] = ()
    refused: tuple[ConfigurationRefused, ...] = ()

    def under(self, others: Gathered) -> tuple[Gathered, tuple[Note, ...]]:
        """Return these settings, overridden by all other sources, and the notes that still apply."""
        notes = list(self.notes)
        gathered = Gathered()
        for each in self.values:
            if each.path == _ADDRESS and self._lets_everybody_in(each.value, others):
                text = (
                    f"{each.value} is not used: without an identity service everybody who reaches it is admin;"
                    " to listen there anyway, set api.host and api.accept_anyone = true"
                )
                notes.append(Note(NoteKind.WARNING, each.origin, text))
            else:
                gathered.add(each.value, each.origin, each.path)
        gathered.override_with(others)
        in_force = [each for each in self.values if each.warning and gathered.origin_of(each.path) == each.origin]
        notes += [Note(NoteKind.WARNING, each.origin, each.warning) for each in in_force]
        return gathered, tuple(notes)

    def _lets_everybody_in(self, address: object, others: Gathered) -> bool:
        """Whether everybody who reaches an address would be admin; a Glance often has an identity service instead."""
        if others.origin_of(_ADDRESS) != DEFAULT:
            return False  # another source overrides it
        ours = next((each.value for each in self.values if each.path == ("api", "auth")), "none")
        authenticated = (others.value_of("api", "auth") or ours) != "none"
        return not (authenticated or _is_true(others.value_of("api", "accept_anyone")) or address in LOOPBACK_HOSTS)


def _is_true(value: object) -> bool:
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def read_glance_settings(named: Sequence[Path], source: str) -> GlanceSettings:
    """Return the settings from Glance files.

    Args:
        named: files, later ones overriding earlier ones option by option; a directory stands for its
            ``glance-image-import.conf``, its ``glance-api.conf`` and the ``*.conf`` files in the directories
            of these names with ``.d`` appended, in this order.
        source: where the names come from, for errors.

    Raises:
        ConfigurationRefused: a file is missing, cannot be read, or is not a configuration file.
    """
    files = files_named(named, source)
    entries = list(entries_of(files))
    found = Findings(entries)
    _note_spellings(found, entries)
    _follow_auth_section(found)
    multi_store = BACKENDS in found.entries and found.entries[BACKENDS].text.strip() != ""
    read_stores(found, multi_store=multi_store)
    read_policies(found, files)
    _map_options(found, multi_store=multi_store)
    _note_the_rest(found)
    return GlanceSettings(files, tuple(found.values), tuple(found.notes), tuple(found.refused))


def _note_spellings(found: Findings, entries: Sequence[Entry]) -> None:
    noted: set[tuple[Path, str]] = set()
    for entry in entries:
        written = entry.written_section
        if written.lower() in SECTION_SPELLINGS and written != DEFAULT_SECTION and (entry.file, written) not in noted:
            noted.add((entry.file, written))
            found.warn(entry, f"the section is called [{entry.key[0]}]; Glance ignores [{written}] silently")


def _follow_auth_section(found: Findings) -> None:
    """Read the login from the section named in ``auth_section``, as keystoneauth1 does."""
    entries = found.entries
    named = entries.pop(AUTH_SECTION, None)
    if named is None:
        return
    try:
        section = canonical_section(found.text_of(named).strip())
    except ValueError as error:
        found.refuse(named, error)
        return
    if section in ("", AUTH_SECTION[0]):
        return
    if not any(of == section for of, _ in entries):
        found.refused.append(named.refused(f"no file has a section [{section}] with the login to Keystone"))
    for name in sorted(LOGIN_OPTIONS):
        passed_over = entries.pop((AUTH_SECTION[0], name), None)
        if passed_over is not None:
            found.ignore(passed_over, f"auth_section is set, so the login is read from [{section}]")
        entry = entries.pop((section, name), None)
        if entry is not None:
            entries[AUTH_SECTION[0], name] = entry


def _map_options(found: Findings, *, multi_store: bool) -> None:
    unused = STAGING_URI if multi_store else STAGING_STORE
    for option in OPTIONS:
        entry = found.entries.get((option.section, option.name))
        if entry is None:
            continue
        if entry.key == unused and {STAGING_URI, STAGING_STORE} <= set(found.entries):
            is_set = "set" if multi_store else "not set"
            found.ignore(entry, f"the other option sets the staging directory, because enabled_backends is {is_set}")
        elif entry.key == (STORES, "default_backend") and not multi_store:
            found.ignore(entry, "enabled_backends is not set")
        else:
            found.map(option, entry)


def _note_the_rest(found: Findings) -> None:
    mapped = {(option.section, option.name) for option in OPTIONS}
    whole_sections = set()
    unknown: dict[str, list[str]] = {}
    referenced = {name for entry in found.entries.values() for name in _REFERENCE.findall(entry.text)}
    for key, entry in found.entries.items():
        if key in mapped:
            continue
        ignored = _ignored(key)
        if key in ELSEWHERE:
            found.warn(entry, ELSEWHERE[key])
        elif ignored is None:
            if key[0] in WHOLLY_KNOWN:
                found.warn(entry, f"Glance has no such option, so it has no effect{_did_you_mean(key)}")
            elif key in found.unread and key[1] not in referenced:
                unknown.setdefault(f"{entry.file}:{entry.written_section}", []).append(key[1])
        elif ignored.name == "*":
            whole_sections.add((f"{entry.file}:{entry.written_section}", ignored.reason))
        else:
            found.pass_over(entry, ignored)
    found.notes += [Note(NoteKind.IGNORED, *section) for section in sorted(whole_sections)]
    found.notes += [Note(NoteKind.UNKNOWN, section, ", ".join(names)) for section, names in unknown.items()]


def _ignored(key: Key) -> IgnoredOption | None:
    return next((each for each in IGNORED if each.section == key[0] and each.name in (key[1], "*")), None)


def _did_you_mean(key: Key) -> str:
    options: list[MappedOption | IgnoredOption] = [*OPTIONS, *IGNORED]
    known = [each.name for each in options if each.section == key[0]]
    close = difflib.get_close_matches(key[1], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
