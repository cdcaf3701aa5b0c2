"""Read ``glance-image-import.conf`` and ``glance-api.conf`` as a source of settings.

What the options mean stands in `config.glance.options`. Whatever is wrong is gathered, so that one
look mends everything; what was understood but is not right, or has no effect here, becomes a note.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oslo_config import cfg, iniparser, types

from config.glance.option import IgnoredOption, MappedOption
from config.glance.options import (
    AUTH_SECTION,
    COMMON_STORE_OPTIONS,
    DEFAULT_SECTION,
    ELSEWHERE,
    IGNORED,
    LOGIN_OPTIONS,
    MULTI_VALUED,
    OPTIONS,
    SECTION_SPELLINGS,
    WHOLLY_KNOWN,
    canonical_section,
)
from config.glance.readers import read_plain_list
from config.glance.substitutes import Key, substituted
from config.notes import Note, NoteKind
from config.settings.stores import KINDS, GlanceFacts, kind_named
from transship.domain.errors import ConfigurationRefused

IMPORT_FILE: Final = "glance-image-import.conf"
API_FILE: Final = "glance-api.conf"

_STORES = "glance_store"
_SHARED = "backend_defaults"
_BACKENDS = (DEFAULT_SECTION, "enabled_backends")
_STAGING_URI = (DEFAULT_SECTION, "node_staging_uri")
_STAGING_STORE = ("os_glance_staging_store", "filesystem_store_datadir")
_LONGEST_SHOWN: Final = 80

_NO_VALUE: Final = "cannot be read: it names an option that has no value; write $$ for a $ that stands for itself"


@dataclass(frozen=True, slots=True)
class GlanceValue:
    """One setting from a file of Glance.

    Attributes:
        path: of the setting.
        value: before validation.
        origin: ``file:section.option``.
        warning: what people should know if no later source sets something else; may be empty.
    """

    path: tuple[str, ...]
    value: object
    origin: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class GlanceSettings:
    """What the files of a Glance give.

    Attributes:
        files: those that were read, the one that wins last.
        values: settings.
        notes: for people.
        refused: what must stop the start; values of refused options are not in ``values``.
    """

    files: tuple[Path, ...] = ()
    values: tuple[GlanceValue, ...] = ()
    notes: tuple[Note, ...] = ()
    refused: tuple[ConfigurationRefused, ...] = ()


def read_glance_settings(named: Sequence[Path], source: str) -> GlanceSettings:
    """Return what files of Glance set here.

    Args:
        named: files, later ones winning option by option; a directory stands for its
            ``glance-image-import.conf``, its ``glance-api.conf`` and the ``*.conf`` files in the directories
            of these names with ``.d`` appended, in this order.
        source: where the names come from, for errors.

    Raises:
        ConfigurationRefused: a file is missing, cannot be read, or is no configuration file at all.
    """
    files = files_named(named, source)
    reader = _Reader(_entries(files))
    reader.read()
    return GlanceSettings(files, tuple(reader.values), tuple(reader.notes), tuple(reader.refused))


def files_named(named: Sequence[Path], source: str) -> tuple[Path, ...]:
    """Return the files that paths stand for, as `read_glance_settings` describes.

    Raises:
        ConfigurationRefused: one is missing, or may not be looked at.
    """
    return tuple(file for path in named for file in _files_of(path, source))


def _files_of(path: Path, source: str) -> Sequence[Path]:
    try:
        if path.is_file():
            return (path,)
        found = _files_in(path) if path.is_dir() else None
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}"
        raise ConfigurationRefused(source, "glance_config", reason) from error
    if found is None:
        raise ConfigurationRefused(source, "glance_config", f"{path} is no file or directory; name one that exists")
    if not found:
        reason = f"{path} has neither {IMPORT_FILE} nor {API_FILE}; name the files themselves"
        raise ConfigurationRefused(source, "glance_config", reason)
    return found


def _files_in(directory: Path) -> list[Path]:
    """Return the files of a directory that Glance would read, in its order.

    Raises:
        OSError: something that is there cannot be looked at.
    """
    names = (IMPORT_FILE, API_FILE)
    found = [path for name in names if (path := directory / name).is_file()]
    # A glob would pass over a directory that may not be read, as if it were empty.
    drop_ins = [path for name in names if (path := directory / f"{name}.d").is_dir()]
    return [*found, *(each for path in drop_ins for each in sorted(path.iterdir()) if each.name.endswith(".conf"))]


# --- files -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """An option as it stands in a file."""

    file: Path
    written_section: str
    key: Key
    text: str

    @property
    def origin(self) -> str:
        return f"{self.file}:{self.written_section}.{self.key[1]}"

    def refused(self, reason: str) -> ConfigurationRefused:
        return ConfigurationRefused(str(self.file), f"[{self.written_section}] {self.key[1]}", reason)


def _entries(files: Sequence[Path]) -> Iterator[_Entry]:
    """Yield every option of every file, those that win last."""
    for file in files:
        sections = _sections(file)
        # A misspelt section must not win over the right one of the same file.
        for section in sorted(sections, key=lambda name: canonical_section(name) == name):
            for option, texts in sections[section].items():
                key = (canonical_section(section), option)
                yield _Entry(file, section, key, ",".join(texts) if key in MULTI_VALUED else texts[-1])


def _sections(file: Path) -> Mapping[str, Mapping[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(str(file), sections).parse()
    except OSError as error:
        raise ConfigurationRefused(str(file), "file", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationRefused(str(file), "file", "is not text in UTF-8") from error
    except iniparser.ParseError as error:
        policy = (error.line or "").strip().startswith(('"', "'")) or "Section must be started" in error.msg
        hint = "; lines of policies belong in a policy file" if policy else ""
        raise ConfigurationRefused(str(file), f"line {error.lineno}", f"{error.msg}{hint}") from error
    return sections


# --- options -----------------------------------------------------------------------------------


class _Reader:
    """Goes through the entries once; what it finds stands in its lists."""

    def __init__(self, entries: Iterator[_Entry]) -> None:
        self.entries: dict[Key, _Entry] = {}
        self.values: list[GlanceValue] = []
        self.notes: list[Note] = []
        self.refused: list[ConfigurationRefused] = []
        self._misspelt: set[tuple[Path, str]] = set()
        for entry in entries:
            self._note_spelling(entry)
            self.entries[entry.key] = entry
        self._texts = {key: entry.text for key, entry in self.entries.items()}

    def read(self) -> None:
        """Turn every entry into a value, a note or a refusal."""
        self._follow_auth_section()
        multi_store = _BACKENDS in self.entries and self.entries[_BACKENDS].text.strip() != ""
        self._read_stores(multi_store)
        unused = _STAGING_URI if multi_store else _STAGING_STORE
        for option in OPTIONS:
            entry = self.entries.get((option.section, option.name))
            if entry is None:
                continue
            if entry.key == unused and {_STAGING_URI, _STAGING_STORE} <= set(self.entries):
                self._ignore(entry, f"the other staging directory is used: enabled_backends is {_is_set(multi_store)}")
            elif entry.key == (_STORES, "default_backend") and not multi_store:
                self._ignore(entry, "enabled_backends is not set")
            else:
                self._map(option, entry, ())
        self._note_the_rest()

    def _follow_auth_section(self) -> None:
        """Let the login's options be those of the section that ``auth_section`` names, as keystoneauth1 does."""
        named = self.entries.pop(AUTH_SECTION, None)
        if named is None:
            return
        try:
            section = canonical_section(self._substituted(named).strip())
        except ValueError as error:
            self.refused.append(named.refused(str(error)))
            return
        if section in ("", AUTH_SECTION[0]):
            return
        if not any(of == section for of, _ in self.entries):
            self.refused.append(named.refused(f"no file has a section [{section}] with the login to Keystone"))
        for name in sorted(LOGIN_OPTIONS):
            passed_over = self.entries.pop((AUTH_SECTION[0], name), None)
            if passed_over is not None:
                self._ignore(passed_over, f"auth_section is set: the login stands in [{section}]")
            entry = self.entries.pop((section, name), None)
            if entry is not None:
                self.entries[AUTH_SECTION[0], name] = entry

    def _map(self, option: MappedOption, entry: _Entry, store: tuple[str, ...]) -> None:
        try:
            reading = option.read(self._substituted(entry))
        except ValueError as error:
            told = f"{error}, found {entry.text[:_LONGEST_SHOWN]!r}"
            self.refused.append(entry.refused(_NO_VALUE if option.secret else told))
            return
        self.notes += [Note(NoteKind.WARNING, entry.origin, warning) for warning in reading.warnings]
        if reading.value is not None:
            parts = option.setting.split(".")
            path = (parts[0], *store, parts[-1]) if store else tuple(parts)
            self.values.append(GlanceValue(path, reading.value, entry.origin, option.warning))

    def _substituted(self, entry: _Entry) -> str:
        return substituted(self._texts, entry.key)

    # --- stores ---

    def _read_stores(self, multi_store: bool) -> None:
        if multi_store:
            self._read_backends(self.entries[_BACKENDS])
            self._note_unused_single_store()
        elif any((_STORES, name) in self.entries for name in _SINGLE_STORE):
            self._read_single_store()

    def _read_backends(self, entry: _Entry) -> None:
        try:
            backends = types.Dict()(self._substituted(entry))
        except ValueError as error:
            self.refused.append(entry.refused(f"{error}; write it as id:type, id:type, found {entry.text!r}"))
            return
        if (_STORES, "default_backend") not in self.entries:
            reason = "must name the default store when enabled_backends is set; one of " + ", ".join(backends)
            self.refused.append(ConfigurationRefused(str(entry.file), f"[{_STORES}] default_backend", reason))
        for store_id, kind in backends.items():
            if _served(kind):
                self._read_store(store_id, kind, entry, (store_id.lower(), _SHARED))
            else:
                self.refused.append(entry.refused(f"store {store_id} is of {_unserved(kind)}"))

    def _read_single_store(self) -> None:
        named = self.entries.get((_STORES, "default_store"))
        source = named or next(self.entries[_STORES, name] for name in _SINGLE_STORE if (_STORES, name) in self.entries)
        try:
            kind = _type_of(self._substituted(named).strip()) if named else "file"
            listed = self._listed_stores()
        except ValueError as error:
            self.refused.append(source.refused(str(error)))
            return
        if not _served(kind):
            self.refused.append(source.refused(f"the store is of {_unserved(kind)}"))
            return
        if listed is not None and kind not in listed:
            told = f"default_store is {kind}, which [{_STORES}] stores does not name: {', '.join(listed)}"
            self.refused.append(source.refused(told))
            return
        self.values.append(GlanceValue(("default_store",), kind, source.origin))
        self._warn(source, f"enabled_backends is not set: the one store is served under the id {kind}")
        self._read_store(kind, kind, source, (_STORES,))

    def _listed_stores(self) -> list[str] | None:
        """Return the types that ``stores`` names, None without it; those that are not served are warned of.

        Raises:
            ValueError: it cannot be read.
        """
        entry = self.entries.get((_STORES, "stores"))
        if entry is None:
            return None
        reading = read_plain_list(self._substituted(entry))
        listed = [_type_of(name) for name in reading.value] if isinstance(reading.value, list) else []
        others = [each for each in listed if not _served(each)]
        unserved = (f"{', '.join(others)}: not served by this release",) if others else ()
        for text in (*reading.warnings, *unserved):
            self._warn(entry, text)
        return listed

    def _note_unused_single_store(self) -> None:
        for (section, name), entry in self.entries.items():
            if section == _STORES and name != "default_backend":
                told = "has no effect, as in Glance, because enabled_backends is set"
                self._warn(entry, f"{told}: {_INSTEAD.get(name, 'a store has its options in a section of its own')}")

    def _read_store(self, store_id: str, kind: str, source: _Entry, sections: tuple[str, ...]) -> None:
        self.values.append(GlanceValue(("stores", store_id, "type"), kind, source.origin))
        facts = _glance_facts(kind)
        for option in (*facts.options, *COMMON_STORE_OPTIONS):
            entry = self._first(sections, option.name)
            if entry is not None:
                self._map(option, entry, (store_id,))
            elif option.required:
                reason = f"is needed by store {store_id} of type {kind}, and not set"
                self.refused.append(ConfigurationRefused(str(source.file), f"[{sections[0]}] {option.name}", reason))
        for ignored in facts.ignored:
            entry = self._first(sections, ignored.name)
            if entry is not None:
                self._ignore(entry, ignored.reason)

    def _first(self, sections: tuple[str, ...], name: str) -> _Entry | None:
        return next((self.entries[section, name] for section in sections if (section, name) in self.entries), None)

    # --- notes ---

    def _warn(self, entry: _Entry, text: str) -> None:
        self.notes.append(Note(NoteKind.WARNING, entry.origin, text))

    def _ignore(self, entry: _Entry, reason: str) -> None:
        self.notes.append(Note(NoteKind.IGNORED, entry.origin, reason))

    def _note_spelling(self, entry: _Entry) -> None:
        written = entry.written_section
        if written.lower() not in SECTION_SPELLINGS or written == DEFAULT_SECTION:
            return
        if (entry.file, written) not in self._misspelt:
            self._misspelt.add((entry.file, written))
            self._warn(entry, f"the section is called [{entry.key[0]}]; Glance ignores [{written}] silently")

    def _note_the_rest(self) -> None:
        mapped = {(option.section, option.name) for option in OPTIONS}
        whole_sections = set()
        for key, entry in self.entries.items():
            if key in mapped:
                continue
            ignored = _ignored(key)
            if key in ELSEWHERE:
                self._warn(entry, ELSEWHERE[key])
            elif ignored is None:
                if key[0] in WHOLLY_KNOWN:
                    self._warn(entry, f"Glance has no such option, it has no effect{_did_you_mean(key)}")
            elif ignored.name == "*":
                whole_sections.add((f"{entry.file}:{entry.written_section}", ignored.reason))
            elif entry.text.strip().lower() not in ignored.harmless:
                self._ignore(entry, ignored.reason)
        self.notes += [Note(NoteKind.IGNORED, *section) for section in sorted(whole_sections)]


_SINGLE_STORE: Final = ("default_store", "stores", "filesystem_store_datadir", "filesystem_store_datadirs")


_INSTEAD: Final[Mapping[str, str]] = {
    "default_store": "default_backend names the default store",
    "stores": "it names the stores",
}


def _type_of(name: str) -> str:
    return next((kind.name for kind in KINDS.values() if kind.glance and name in kind.glance.names), name)


def _served(name: str) -> bool:
    kind = kind_named(name)
    return kind is not None and kind.glance is not None


def _glance_facts(name: str) -> GlanceFacts:
    kind = kind_named(name)
    return (kind and kind.glance) or GlanceFacts()


def _ignored(key: Key) -> IgnoredOption | None:
    return next((each for each in IGNORED if each.section == key[0] and each.name in (key[1], "*")), None)


def _unserved(kind: str) -> str:
    served = ", ".join(name for name, each in KINDS.items() if each.glance)
    return f"type {kind}, which this release does not serve; served: {served}. Take it out, or give it another type"


def _is_set(multi_store: bool) -> str:
    return "set" if multi_store else "not set"


def _did_you_mean(key: Key) -> str:
    known = [each.name for each in (*OPTIONS, *IGNORED) if each.section == key[0]]
    close = difflib.get_close_matches(key[1], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
