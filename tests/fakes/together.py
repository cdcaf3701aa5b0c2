"""Real races: several functions start at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from transship.domain.errors import TransshipError


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run some works at the same moment; return what each returned, or the error of ours that it raised."""
    all_ready = Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        all_ready.wait(120)
        try:
            return work()
        except TransshipError as error:
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))
