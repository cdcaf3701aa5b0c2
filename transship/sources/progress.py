"""How far a download is, told a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0); never goes back as long as the size stays what it is."""

_EVERY_S: Final = 0.25


class Teller:
    """Passes on progress, seldom enough for its listener; to be used by one thread."""

    def __init__(self, listener: Progress) -> None:
        self._listener = listener
        self._told_at = 0.0
        self._most_done = 0

    def tell(self, done: int, total: int | None) -> None:
        """Tell if the last time was long enough ago."""
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S:
            self._told_at = now
            self._pass_on(done, total or 0)

    def tell_end(self, size: int) -> None:
        """Tell that all ``size`` bytes are there."""
        self._pass_on(size, size)

    def _pass_on(self, done: int, total: int) -> None:
        # A fresh start does not take back what people were told.
        self._most_done = max(self._most_done, done)
        self._listener(min(self._most_done, total) if total else self._most_done, total)
