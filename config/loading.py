"""Loads the settings from their sources: defaults, Glance's files, our files, environment, command line; the last wins.

Each value keeps its origin. Errors name the source, the option and the remedy, and all are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import TypeAdapter, ValidationError

from config.gathering import COMMAND_LINE, FROM_VARIABLE, Gathered, all_refused
from config.notes import Note
from config.options import CONFIG_VARIABLE, GLANCE_OPTION, HOME_VARIABLE, NESTING, PREFIX, option_values
from config.reading import SYSTEM_FILE, files_of, read_file, read_variable, texts_of, value_from
from config.settings import AbsolutePath, Settings
from transship.domain.errors import ConfigurationRefused

SNAPSHOT_VARIABLE: Final = "TRANSSHIP_SETTINGS_SNAPSHOT"
"""Names the snapshot passed to a process (`config.snapshot`); not a source of settings."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Valid settings and their origins.

    Attributes:
        settings: all settings.
        origins: dotted option to ``default``, a file's path, ``environment TRANSSHIP_…`` or ``command line``;
            every option has one. A value from a Glance file has ``path:section.option``.
        files: files that were read; later ones override earlier ones.
        notes: problems of sources that could be used nevertheless.
        texts: contents of the Glance files and of the policy file. A process needs more of them than the options that
            map to settings, even if it starts after they were edited.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()
    notes: tuple[Note, ...] = ()
    texts: Mapping[Path, str] = field(default_factory=dict)


def load_settings(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> LoadedSettings:
    """Return the settings in force.

    Args:
        file: TOML file named on the command line; must exist. If None, the file named in
            ``TRANSSHIP_CONFIG``, which must exist too; else ``/etc/transship/transship.toml``,
            ``<home>/transship.toml`` and ``<home>/remembered.toml``, if they exist; later ones override earlier ones.
        environ: environment variables; ``TRANSSHIP_API__PORT`` is ``api.port``. Lists are JSON or
            comma-separated words (``TRANSSHIP_GLANCE_CONFIG``: colon-separated paths), mappings are JSON.
        overrides: dotted options from the command line; text is parsed as in the environment.
        system_file: the machine-wide file.

    Raises:
        ConfigurationRefused: a file cannot be read, or a setting cannot be used; `SeveralRefused` if
            there is more than one problem. The text holds no secrets.
    """
    return load_files(files_of(file, environ, overrides or {}, system_file), environ=environ, overrides=overrides)


def load_files(
    files: tuple[Path, ...],
    *,
    environ: Mapping[str, str] = MappingProxyType({}),
    overrides: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """Return the settings from these TOML files; by default nothing else is read.

    Args:
        files: later ones override earlier ones.
        environ, overrides: as `load_settings`.

    Raises:
        ConfigurationRefused: as `load_settings`.
    """
    gathered = Gathered()
    for path in files:
        gathered.add(read_file(path), str(path))
    _add_variables(gathered, environ)
    for option, value in (overrides or {}).items():
        option_path = tuple(option.split("."))
        found = value_from(value, option_path) if isinstance(value, str) else value
        gathered.add(found, COMMAND_LINE, option_path)
    notes: tuple[Note, ...] = ()
    glance_files: tuple[Path, ...] = ()
    if named := _glance_files(gathered):
        # Importing oslo.config takes a third of a second, so it is only done if there are such files.
        from config.glance.source import read_glance_settings  # noqa: PLC0415

        glance = read_glance_settings(named, gathered.origin_of((GLANCE_OPTION,)))
        if glance.refused:
            raise all_refused(list(glance.refused))
        gathered, notes = glance.under(gathered)
        glance_files = glance.files
    try:
        settings = Settings.model_validate(gathered.nested())
    except ValidationError as error:
        raise all_refused(list(gathered.problems(error))) from error
    origins = {".".join(path): gathered.origin_of(path) for path in option_values(settings)}
    texts = texts_of((*glance_files, *settings.api.rule_files))
    return LoadedSettings(settings, origins, (*glance_files, *files), notes, texts)


def _add_variables(gathered: Gathered, environ: Mapping[str, str]) -> None:
    """Add the options that environment variables set; variables of whole sections come first."""
    names = [name for name in environ if name.startswith(PREFIX) and name not in (SNAPSHOT_VARIABLE, CONFIG_VARIABLE)]
    for name in sorted(names, key=lambda name: name.count(NESTING)):
        text = environ[name]
        if text or name != HOME_VARIABLE:
            gathered.add(read_variable(name, text), FROM_VARIABLE + name)


def _glance_files(gathered: Gathered) -> tuple[Path, ...]:
    """Return the Glance files named in the sources."""
    named = gathered.value_of(GLANCE_OPTION)
    try:
        return TypeAdapter(tuple[AbsolutePath, ...]).validate_python(() if named is None else named)
    except ValidationError:
        return ()  # the validation of all settings reports the fault


def home_named(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Path:
    """Return the home directory named in the sources, even if other settings are invalid.

    Args:
        file, environ, overrides, system_file: as `load_settings`.
    """
    home = (overrides or {}).get("home") or environ.get(HOME_VARIABLE)
    if not home:
        with suppress(ConfigurationRefused):
            for path in reversed(files_of(file, environ, overrides or {}, system_file)):
                with suppress(ConfigurationRefused):
                    home = home or read_file(path).get("home")
    path = Path(str(home or Settings.model_fields["home"].default))
    with suppress(RuntimeError):
        path = path.expanduser()
    return path.absolute()
