"""The stop token, which passes a cancel on to threads that copy bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from transship.domain.errors import TransshipError


class StopToken:
    """Tells all threads that work must end; each notices at its next chunk.

    A signal reaches only the main thread of a process; this token passes it on to other threads and to
    child processes. The first reason wins.

    Args:
        guard: called by each `check` of a token that was not stopped; raises if the work must end all the same.
    """

    def __init__(self, guard: Callable[[], None] | None = None) -> None:
        self._guard = guard
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._error: TransshipError | None = None

    def stop(self, error: TransshipError) -> None:
        """Tell all threads to end, with ``error`` as the reason."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._event.set()

    @property
    def stopped(self) -> bool:
        """Whether the work must end."""
        return self._event.is_set()

    @property
    def reason(self) -> TransshipError | None:
        """Why the work must end; None while it may continue."""
        return self._error

    def check(self) -> None:
        """Raise the reason if the work must end.

        Raises:
            LockLost: another worker took over.
            ImportStopped: the import was cancelled or interrupted.
        """
        if self._event.is_set() and self._error is not None:
            raise self._error
        if self._guard is not None:
            self._guard()

    def wait(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds; raise as `check` does as soon as the work must end."""
        self._event.wait(timeout_s)
        self.check()
