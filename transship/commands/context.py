"""What all commands share: the selected configuration, colours and tables."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.loading import SNAPSHOT_VARIABLE, LoadedSettings, home_named
from config.options import GLANCE_OPTION
from config.settings import Settings
from config.snapshot import Snapshot, Sources, newest_snapshot, read_snapshot, settings_in_force, sources_of_process
from transship.domain.errors import CommandRefused, ConfigurationRefused
from transship.host.runner_status import read_runner_status, runner_status_path
from transship.supervisor.home import is_locked
from transship.supervisor.output import WARNING


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options before the command.

    Attributes:
        config: configuration file from the command line.
        overrides: dotted options and their values as text.
    """

    config: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> Sources:
        """Where settings are loaded from."""
        return sources_of_process(self.config, self.overrides)

    def load(self) -> LoadedSettings:
        """Return the current settings of the sources, regardless of what runs.

        Raises:
            ConfigurationRefused: it cannot be used.
        """
        return self.sources.load()

    def snapshot(self) -> Snapshot | None:
        """Return the settings with which something runs in the home directory.

        Only the home directory is taken from the sources, so that running components can be shown, stopped and repaired
        while the sources are unusable.

        Returns:
            None when nothing runs there, or a version without snapshots does.
        """
        home = home_named(file=self.config, overrides=self.overrides)
        where = Settings.model_validate({"home": home})
        if not is_locked(where) and read_runner_status(runner_status_path(where)) is None:
            return None
        newest = newest_snapshot(where.run_dir)
        try:
            return read_snapshot(newest) if newest is not None else None
        except ConfigurationRefused:
            return None

    def in_force(self) -> LoadedSettings:
        """Return the settings of what runs in the home directory; if nothing does, those that a start would load.

        Any option other than ``--home`` asks for settings other than those of what runs.

        Raises:
            ConfigurationRefused: they cannot be used.
        """
        if SNAPSHOT_VARIABLE in os.environ:
            return settings_in_force()
        asked_for_others = set(self.overrides) - {"home"}
        snapshot = None if asked_for_others else self.snapshot()
        return snapshot.loaded if snapshot is not None else self.load()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.in_force().settings


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
            raise CommandRefused(
                f"--set {assignment} is not an assignment", "write OPTION=VALUE, e.g. --set api.port=9393"
            )
        overrides[option.strip()] = value
    return overrides


def coloured(text: str, code: int, *, error: bool = False) -> str:
    """Return a text in an ANSI colour if its stream is a terminal that shows them."""
    stream = sys.stderr if error else sys.stdout
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


RED, GREEN, YELLOW = 31, 32, 33


def print_problems(problems: Iterable[str]) -> None:
    """Print each problem that there is as a warning, which a start in the background shows too."""
    for problem in filter(None, problems):
        print(coloured(f"{WARNING}{problem}", YELLOW, error=True), file=sys.stderr, flush=True)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: columns as wide as their longest cell, none shortened, readable in a pipe."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ]


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    print("\n".join(table_lines(headings, rows)))


def print_json(value: object) -> None:
    """Print a value for programs; its keys are documented in docs/operations.md and stay."""
    print(json.dumps(value, indent=2))
