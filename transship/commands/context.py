"""What all commands share: which configuration was asked for, and where text goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.loading import CONFIG_VARIABLE, GLANCE_OPTION, LoadedSettings, load_settings, variable_of
from config.settings import Settings
from transship.domain.errors import CommandRefused


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that stand before every command.

    Attributes:
        config: configuration file asked for.
        overrides: dotted options and their values as text.
    """

    config: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> LoadedSettings:
        """Return the settings in force and where each came from.

        Raises:
            ConfigurationRefused: they cannot be used.
        """
        return load_settings(file=self.config, overrides=self.overrides)

    @property
    def settings(self) -> Settings:
        """The settings in force; read anew at each use."""
        return self.load().settings

    def variables(self) -> dict[str, str]:
        """Return the environment with which another process loads the same settings."""
        overridden = {variable_of(tuple(option.split("."))): value for option, value in self.overrides.items()}
        return {**({CONFIG_VARIABLE: str(self.config.absolute())} if self.config else {}), **overridden}


def parse_overrides(home: Path | None, assignments: Sequence[str], glance: Sequence[Path] = ()) -> dict[str, str]:
    """Return the overrides of ``--home``, of ``--glance-config`` and of each ``--set OPTION=VALUE``.

    Raises:
        CommandRefused: an assignment has no ``=``.
    """
    overrides = {"home": str(home.absolute())} if home else {}
    if glance:
        overrides[GLANCE_OPTION] = os.pathsep.join(str(path.absolute()) for path in glance)
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        if not equals or not option.strip():
            raise CommandRefused(f"--set {assignment}: write it as OPTION=VALUE, e.g. --set api.port=9393")
        overrides[option.strip()] = value
    return overrides


def coloured(text: str, code: int, *, error: bool = False) -> str:
    """Return a text in an ANSI colour if its stream is a terminal that shows them."""
    stream = sys.stderr if error else sys.stdout
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


RED, GREEN, YELLOW = 31, 32, 33


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: columns as wide as their longest cell, none shortened, readable in a pipe."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
