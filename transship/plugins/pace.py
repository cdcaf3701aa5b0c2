"""Report progress a few times a second, however often the work calls."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 0.3


class Paced:
    """A progress callback that passes on at most one call in `INTERVAL_S` seconds, and always the last."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._next = 0.0

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Report if it is time to, or if the work is done."""
        now = time.monotonic()
        if now < self._next and done_bytes != total_bytes:
            return
        self._next = now + INTERVAL_S
        self._report(done_bytes, total_bytes)
