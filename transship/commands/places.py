"""What keeps imports of this host from its directories, as all commands say it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from transship.commands.context import YELLOW, coloured
from transship.supervisor.output import WARNING


def print_problems(problems: Iterable[str]) -> None:
    """Print each problem that there is as a warning, which a start in the background shows too."""
    for problem in filter(None, problems):
        print(coloured(f"{WARNING}{problem}", YELLOW, error=True), file=sys.stderr, flush=True)
