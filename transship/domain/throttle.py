"""Progress reports at a limited rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 0.3
"""Minimum seconds between two reports within one process."""


class ThrottledProgress:
    """Passes on the first and the last report, and others at a limited rate; for use by one thread at a time.

    Args:
        report: called with bytes done, and total bytes or 0.
        every_s: minimum seconds between two calls; None: `EVERY_S`.
    """

    def __init__(self, report: Callable[[int, int], None], every_s: float | None = None) -> None:
        self._report = report
        self._every_s = EVERY_S if every_s is None else every_s
        self._next_at = 0.0
        self._reported: tuple[int, int] | None = None

    def __call__(self, done_bytes: int, total_bytes: int = 0) -> None:
        """Report if enough time has passed, or if the work is done."""
        now = time.monotonic()
        if now < self._next_at and not (total_bytes and done_bytes == total_bytes):
            return
        self._next_at = now + self._every_s
        self._pass_on(done_bytes, total_bytes)

    def end(self, size_bytes: int) -> None:
        """Report that all bytes are done, unless that was the last report."""
        if self._reported != (size_bytes, size_bytes):
            self._pass_on(size_bytes, size_bytes)

    def _pass_on(self, done_bytes: int, total_bytes: int) -> None:
        self._reported = (done_bytes, total_bytes)
        self._report(done_bytes, total_bytes)
