"""Progress at a pace that people and APIs can follow."""

from __future__ import annotations

import time
from typing import Final

from transship.domain.staged import Progress

INTERVAL_S: Final = 1.0
"""Least time between two reports. Source: the contract of `StoreDriver.put`."""


class PacedProgress:
    """Pass the first report on, then at most one a second; `end` always."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next_at = 0.0

    def __call__(self, done: int) -> None:
        """Report ``done`` bytes unless the last report is younger than a second."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + INTERVAL_S
        self._progress(done)

    def end(self, size: int) -> None:
        """Report that all ``size`` bytes are done."""
        self._progress(size)
