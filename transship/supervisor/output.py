"""Writes each component's lines to its log file, and all lines to the console."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from transship.host.logs import as_event
from transship.supervisor.log_file import RotatingFile

SUPERVISOR: Final = "supervisor"
"""Component name of the supervisor's own lines."""

WARNING: Final = "warning: "
"""Prefix of a component's line that must be shown to the user who starts it."""

COLOURS: Final = (36, 33, 35, 32, 34, 31)
"""ANSI foreground colours of components, in the order of their first lines."""

CONTROL_SEQUENCE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
"""Terminal control sequences and control characters: a log line must not move the reader's cursor."""


class Sink(Protocol):
    """Shows a complete line."""

    def __call__(self, component: str, line: str) -> None:
        """Show a line of a component."""


class Console:
    """Lines on standard output: time, component, text; colours on a terminal only."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()
        self._colours: dict[str, int] = {SUPERVISOR: 1}

    def __call__(self, component: str, line: str) -> None:
        """Show a line of a component; ignore a closed standard output."""
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        name = f"{component:<14}"
        if self._colour:
            colour = self._colours.setdefault(component, COLOURS[(len(self._colours) - 1) % len(COLOURS)])
            name = f"\x1b[{colour}m{name}\x1b[0m"
        try:
            print(f"{clock} {name} {line}", flush=True)
        except (BrokenPipeError, ValueError):
            return


class Output:
    """Writes lines to log files and passes them to a sink.

    Args:
        directory: of the ``<component>.log`` files; it exists.
        max_bytes, backups: limits of each log, as in `RotatingFile`.
        sink: shows the line.
    """

    def __init__(self, directory: Path, max_bytes: int, backups: int, sink: Sink) -> None:
        self.directory, self.max_bytes, self.backups, self.sink = directory, max_bytes, backups, sink
        self._files: dict[str, RotatingFile] = {}

    def line(self, component: str, text: str) -> None:
        """Write one line of a component: as an event to its log, as it is to the sink."""
        clean = CONTROL_SEQUENCE.sub("", text.rstrip())
        if not clean:
            return
        if component not in self._files:
            self._files[component] = RotatingFile(log_path(self.directory, component), self.max_bytes, self.backups)
        self._files[component].write_line(as_event(component, clean))
        self.sink(component, clean)

    def lines(self, component: str, texts: Sequence[str]) -> None:
        """Write several lines of a component."""
        for text in texts:
            self.line(component, text)

    def close(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()


def log_path(directory: Path, component: str) -> Path:
    """Return the path of a component's log file."""
    return directory / f"{component}.log"
