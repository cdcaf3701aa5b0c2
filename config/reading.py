"""Reads the sources of settings: files, environment variables, and texts from the command line."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.gathering import COMMAND_LINE
from config.options import CONFIG_VARIABLE, GLANCE_OPTION, HOME_VARIABLE, NESTING, PREFIX, OptionPath, field_at
from config.settings import Settings
from transship.domain.errors import ConfigurationRefused

FILE_NAME: Final = "transship.toml"
REMEMBERED: Final = "remembered.toml"
"""The file of the home directory with options that ``transship up`` was given on its command line."""
SYSTEM_FILE: Final = Path("/etc/transship") / FILE_NAME


def files_of(
    file: Path | None, variables: Mapping[str, str], overrides: Mapping[str, object], system_file: Path
) -> tuple[Path, ...]:
    """Return the files to read, as `config.loading.load_settings` describes; later ones override earlier ones.

    Raises:
        ConfigurationRefused: a named file does not exist, or a file is not accessible.
    """
    if file is not None:
        return (_existing(file, COMMAND_LINE),)
    if variables.get(CONFIG_VARIABLE):
        return (_existing(Path(variables[CONFIG_VARIABLE]), f"environment {CONFIG_VARIABLE}"),)
    home = Path(str(overrides.get("home") or variables.get(HOME_VARIABLE) or Settings.model_fields["home"].default))
    try:
        home = home.expanduser().absolute()
    except RuntimeError:
        return ()
    return tuple(path for path in (system_file, home / FILE_NAME, home / REMEMBERED) if _is_file(path))


def _existing(path: Path, source: str) -> Path:
    path = path.absolute()
    if not _is_file(path):
        raise ConfigurationRefused(source, "configuration file", f"{path} is not a file", "name one that exists")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigurationRefused:
    remedy = "let this account read it" if isinstance(error, PermissionError) else ""
    return ConfigurationRefused(str(path), "file", f"cannot be read: {error.strerror}", remedy)


def read_file(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises:
        ConfigurationRefused: it cannot be read, or is not TOML.
    """
    try:
        # Editors on Windows begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        remedy = "save the file as UTF-8"
        raise ConfigurationRefused(str(path), f"line {line}", "is not text in UTF-8", remedy) from error
    except tomllib.TOMLDecodeError as error:
        fault, _, place = str(error).removesuffix(")").rpartition(" (at ")
        remedy = "'transship config sample' prints a file with every option"
        raise ConfigurationRefused(str(path), place or "file", f"is not TOML: {fault or error}", remedy) from error


def texts_of(files: Sequence[Path]) -> dict[Path, str]:
    """Return the texts of files; those that cannot be read are left out."""
    texts = {}
    for path in files:
        # The code that uses the file reports what is wrong with it.
        with suppress(OSError):
            texts[path] = path.read_text(encoding="utf-8", errors="replace")
    return texts


class _FromOutside(Settings, BaseSettings):
    """The settings in the form that the readers of pydantic-settings require; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=NESTING)


class _Variable(EnvSettingsSource):
    """Reads one given variable instead of the environment; lists may also be comma-separated."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(_FromOutside)
        self.path = tuple(name.removeprefix(PREFIX).lower().split(NESTING))
        self.env_vars = {name.lower(): text}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode the text of a list, mapping or section; validation refuses what cannot be decoded."""
        return value_from(value, self.path) if isinstance(value, str) else value


def read_variable(name: str, text: str) -> dict[str, Any]:
    """Return the options that an environment variable sets, nested by section."""
    variable = _Variable(name, text)
    if text and (found := variable()):
        return found
    # pydantic-settings skips unknown names, and does not read an empty text as an empty list or mapping.
    nested: Any = value_from(text, variable.path)
    for part in reversed(variable.path):
        nested = {part: nested}
    return dict(nested)


def value_from(text: str, path: OptionPath) -> object:
    """Return the value of a text from the environment or the command line.

    Lists are JSON or comma-separated words, mappings and sections are JSON. Validation refuses any other text.
    """
    found, stripped = field_at(path), text.strip()
    default: object = {} if found is None else found.get_default(call_default_factory=True)
    if not isinstance(default, tuple | Mapping | BaseModel):
        return text
    if stripped.startswith(("[", "{")):
        with suppress(ValueError):
            return json.loads(stripped)
        return text
    if isinstance(default, tuple):
        words = stripped.split(os.pathsep if path == (GLANCE_OPTION,) else ",")
        return [word.strip() for word in words if word.strip()]
    return {} if found and not stripped else text
