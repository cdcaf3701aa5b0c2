"""Snapshots: the settings in force on a host, in a file that is passed to every process there.

The parent process loads and validates the settings once and writes the snapshot. Its children read the
snapshot, not the sources, so an edit takes effect everywhere at the next reload and nowhere before.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from config.gathering import DEFAULT
from config.loading import SNAPSHOT_VARIABLE, LoadedSettings, load_settings
from config.notes import Note, NoteKind
from config.options import PREFIX, option_values
from config.private_files import create_private
from config.settings import Settings
from config.settings.section import plain
from transship.domain.errors import ConfigurationRefused

_NAME: Final = re.compile(r"settings-(\d+)\.json")
_COMPUTED: Final = frozenset({"home", "host_name"})
"""Options whose defaults depend on the process; all other defaults are constants of the code."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings are loaded from; another process can use it to load them again.

    Attributes:
        config: file named on the command line.
        overrides: dotted options of the command line.
        environ: ``TRANSSHIP_…`` variables.
        directory: working directory, on which relative paths depend.
    """

    config: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    directory: Path = field(default_factory=Path.cwd)

    def load(self) -> LoadedSettings:
        """Load the current settings.

        Raises:
            ConfigurationRefused: they cannot be used.
        """
        with chdir(self.directory if os.access(self.directory, os.X_OK) else Path.cwd()):
            return load_settings(file=self.config, environ=self.environ, overrides=self.overrides)


def sources_of_process(config: Path | None = None, overrides: Mapping[str, str] | None = None) -> Sources:
    """Return the sources of this process: its environment and its command line."""
    environ = {name: text for name, text in os.environ.items() if name.startswith(PREFIX) and name != SNAPSHOT_VARIABLE}
    return Sources(config.absolute() if config else None, dict(overrides or {}), environ)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Settings in force.

    Attributes:
        loaded: the settings and their sources.
        sources: from which a reload loads the next settings.
        supervised: whether it was taken by ``transship up``, which also reloads; else by a standalone worker.
        taken_at: ISO 8601 time in UTC.
    """

    loaded: LoadedSettings
    sources: Sources
    supervised: bool
    taken_at: str = ""

    def difference(self, now: LoadedSettings) -> tuple[str, ...]:
        """Return the options whose values differ from newly loaded ones, and the files that differ."""
        before, after = option_values(self.loaded.settings), option_values(now.settings)
        options = [".".join(path) for path in {**before, **after} if before.get(path, ...) != after.get(path, ...)]
        # The running service notices changes of the policy file itself.
        policies = {self.loaded.settings.api.policy_file, now.settings.api.policy_file}
        texts = {**self.loaded.texts, **now.texts}.keys() - policies
        files = [str(path) for path in sorted(texts) if self.loaded.texts.get(path) != now.texts.get(path)]
        return (*options, *files)


def take_snapshot(loaded: LoadedSettings, sources: Sources, *, supervised: bool) -> Path:
    """Write a snapshot atomically, readable only by this account; it becomes the newest one.

    Nothing is written if the newest one has the same contents. Former ones are kept: a component that a reload did not
    reach is restarted with its own snapshot.

    Args:
        loaded: validated settings; their home directory exists.

    Returns:
        The file to pass to processes in ``TRANSSHIP_SETTINGS_SNAPSHOT``.

    Raises:
        ConfigurationRefused: the directory cannot be written; nothing is left behind.
    """
    directory = loaded.settings.run_dir
    text = _as_text(loaded, sources, supervised=supervised)
    newest = newest_snapshot(directory)
    if newest is not None and _holds(newest, text):
        return newest
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            number = 1 + max(map(_number, _by_age(directory)), default=0)
            path = directory / f"settings-{number}.json"
            if create_private(path, text):
                return path
    except OSError as error:
        reason = f"the settings in force cannot be written: {error.strerror}"
        raise ConfigurationRefused(str(directory), "home", reason) from error


def remove_others(kept: Path) -> None:
    """Remove the snapshots of former starts, which no running process on this host uses."""
    for path in _by_age(kept.parent):
        if path != kept:
            path.unlink(missing_ok=True)


def _as_text(loaded: LoadedSettings, sources: Sources, *, supervised: bool) -> str:
    content = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "supervised": supervised,
        "config": sources.config,
        "overrides": sources.overrides,
        "environ": sources.environ,
        "directory": sources.directory,
        "settings": _given(loaded.settings),
        "origins": loaded.origins,
        "files": loaded.files,
        "notes": [[note.kind, note.origin, note.text] for note in loaded.notes],
        "texts": {str(path): text for path, text in loaded.texts.items()},
    }
    return json.dumps(content, default=plain, indent=1)


def _holds(path: Path, text: str) -> bool:
    """Whether a snapshot is the same except for its time."""
    try:
        found, wanted = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        return {**found, "taken_at": ""} == {**wanted, "taken_at": ""}
    except (OSError, ValueError, TypeError):
        return False


def newest_snapshot(run_dir: Path) -> Path | None:
    """Return the newest snapshot on this host; None if there is none."""
    try:
        return next(reversed(_by_age(run_dir)), None)
    except OSError:
        return None


def read_snapshot(path: Path) -> Snapshot:
    """Return a snapshot.

    Raises:
        ConfigurationRefused: the file is missing, or was written by another version.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        settings = Settings.model_validate(raw["settings"])
        origins = {name: raw["origins"].get(name, DEFAULT) for name in map(".".join, option_values(settings))}
        loaded = LoadedSettings(
            settings,
            origins,
            tuple(map(Path, raw["files"])),
            tuple(Note(NoteKind(kind), origin, text) for kind, origin, text in raw["notes"]),
            {Path(name): text for name, text in raw["texts"].items()},
        )
        config = Path(raw["config"]) if raw["config"] else None
        sources = Sources(config, raw["overrides"], raw["environ"], Path(raw["directory"]))
        return Snapshot(loaded, sources, raw["supervised"], raw["taken_at"])
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except ValidationError as error:
        names = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False))
        raise _unreadable(path, f"another version wrote it, or it is damaged: {names}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"another version wrote it, or it is damaged: {type(error).__name__}") from None


def settings_in_force(environ: Mapping[str, str] = os.environ) -> LoadedSettings:
    """Return the settings passed to this process; if none were passed, load them from their sources.

    Raises:
        ConfigurationRefused: they cannot be read, or cannot be used.
    """
    handed = environ.get(SNAPSHOT_VARIABLE)
    return read_snapshot(Path(handed)).loaded if handed else load_settings(environ=environ)


def _given(settings: Settings) -> dict[str, Any]:
    """Return the set options with secrets in the clear, and defaults that depend on this process."""
    computed = {name: getattr(settings, name) for name in _COMPUTED}
    return {**settings.model_dump(mode="python", exclude_unset=True), **computed}


def _by_age(directory: Path) -> list[Path]:
    return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def _unreadable(path: Path, reason: str) -> ConfigurationRefused:
    remedy = "write a new one with 'transship reload' or a new start"
    return ConfigurationRefused(str(path), "settings in force", f"cannot be read: {reason}", remedy)
