"""Finds Glance's configuration files and reads their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oslo_config import cfg, iniparser

from config.glance.options import MULTI_VALUED, REPEATED_STORE_OPTIONS, canonical_section
from config.glance.readers import REPEATED
from config.glance.substitutes import Key
from transship.domain.errors import ConfigurationRefused

IMPORT_FILE: Final = "glance-image-import.conf"
API_FILE: Final = "glance-api.conf"


def files_named(named: Sequence[Path], source: str) -> tuple[Path, ...]:
    """Return the files behind paths, as `config.glance.source.read_glance_settings` describes.

    Raises:
        ConfigurationRefused: one is missing or not accessible.
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
        raise ConfigurationRefused(
            source, "glance_config", f"{path} is not a file or directory", "name one that exists"
        )
    if not found:
        reason = f"{path} has neither {IMPORT_FILE} nor {API_FILE}"
        raise ConfigurationRefused(source, "glance_config", reason, "name the files themselves")
    return found


def _files_in(directory: Path) -> list[Path]:
    """Return the files of a directory that Glance would read, in its order.

    Raises:
        OSError: an existing file or directory is not accessible.
    """
    names = (IMPORT_FILE, API_FILE)
    found = [path for name in names if (path := directory / name).is_file()]
    # A glob would treat an unreadable directory as empty.
    drop_ins = [path for name in names if (path := directory / f"{name}.d").is_dir()]
    return [*found, *(each for path in drop_ins for each in sorted(path.iterdir()) if each.name.endswith(".conf"))]


@dataclass(frozen=True, slots=True)
class Entry:
    """An option in a file."""

    file: Path
    written_section: str
    key: Key
    text: str

    @property
    def origin(self) -> str:
        return f"{self.file}:{self.written_section}.{self.key[1]}"

    def refused(self, reason: str, remedy: str = "") -> ConfigurationRefused:
        return ConfigurationRefused(str(self.file), f"[{self.written_section}] {self.key[1]}", reason, remedy)


def entries_of(files: Sequence[Path]) -> Iterator[Entry]:
    """Yield every option of every file; later ones override earlier ones."""
    for file in files:
        sections = _sections(file)
        # A misspelt section must not override the correct one in the same file.
        for section in sorted(sections, key=lambda name: canonical_section(name) == name):
            for option, texts in sections[section].items():
                key = (canonical_section(section), option)
                yield Entry(file, section, key, _text_of(key, texts))


def _text_of(key: Key, texts: Sequence[str]) -> str:
    if key in MULTI_VALUED:
        return ",".join(texts)
    return REPEATED.join(texts) if key[1] in REPEATED_STORE_OPTIONS else texts[-1]


def _sections(file: Path) -> Mapping[str, Mapping[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(str(file), sections).parse()
    except OSError as error:
        raise ConfigurationRefused(str(file), "file", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationRefused(str(file), "file", "is not text in UTF-8") from error
    except iniparser.ParseError as error:
        unsectioned = "Section must be started" in error.msg
        policy = unsectioned or (error.line or "").strip().startswith(('"', "'"))
        remedy = "policy rules belong in a policy file (api.policy_file)" if policy else "write option = value"
        if unsectioned:
            remedy = f"write a section such as [DEFAULT] above it; {remedy}"
        raise ConfigurationRefused(str(file), f"line {error.lineno}", error.msg, remedy) from error
    return sections
