"""Glance's configuration files, written and loaded for tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.loading import LoadedSettings, load_settings
from config.notes import NoteKind
from transship.domain.errors import ConfigurationRefused


def write(folder: Path, text: str, name: str = "glance-api.conf") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def load(*paths: Path, environ: Mapping[str, str] | None = None, **overrides: object) -> LoadedSettings:
    named = {"TRANSSHIP_GLANCE_CONFIG": os.pathsep.join(str(path) for path in paths)}
    return load_settings(
        environ={"TRANSSHIP_HOME": "/nonexistent/home", **named, **(environ or {})},
        overrides={name.replace("__", "."): value for name, value in overrides.items()},
        system_file=Path("/nonexistent/transship.toml"),
    )


def of(folder: Path, text: str) -> LoadedSettings:
    return load(write(folder, text))


def refusal(folder: Path, text: str) -> ConfigurationRefused:
    with pytest.raises(ConfigurationRefused) as refused:
        of(folder, text)
    return refused.value


def notes(loaded: LoadedSettings, kind: NoteKind) -> list[str]:
    return [f"{note.origin.partition(':')[2]}: {note.text}" for note in loaded.notes if note.kind is kind]
