"""Prints why imports on this host cannot use its directories, in the same way for all commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from transship.commands.context import YELLOW, coloured
from transship.supervisor.output import WARNING


def print_problems(problems: Iterable[str]) -> None:
    """Print each problem as a warning, which is also shown by a start in the background."""
    for problem in filter(None, problems):
        print(coloured(f"{WARNING}{problem}", YELLOW, error=True), file=sys.stderr, flush=True)
