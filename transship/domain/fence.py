"""The fence: until when a process may assume that it still holds its lease.

A process that was stopped for a while (SIGSTOP, a sleeping laptop, a hanging disk) resumes in the middle of
its work, before its renewal thread finds out that another process has taken over the import. So code checks the fence
before each irreversible step; if the last renewal is too old, the fence renews the lease in the catalogue first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from transship.domain.errors import CatalogUnavailable, ImportInterrupted


def _now() -> float:
    # Keeps running while the machine sleeps, unlike time.monotonic.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Tracks the validity of one lease.

    Args:
        renew: renews the lease in the catalogue; raises LockLost or CatalogUnavailable.
        ttl_s: seconds that a renewal lasts.
        clock: seconds, also counted while the machine sleeps.
    """

    def __init__(self, renew: Callable[[], None], ttl_s: float, clock: Callable[[], float] = _now) -> None:
        self._renew = renew
        self._ttl_s = ttl_s
        self._clock = clock
        self._renewing = threading.Lock()
        # The lease was taken an unknown time before, so assume only half of its life.
        self._until = clock() + ttl_s / 2

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            LockLost: another worker has it.
            CatalogUnavailable: the lease is unchanged.
        """
        # Count from before the request, because the answer may take a while.
        asked_at = self._clock()
        self._renew()
        self._until = asked_at + self._ttl_s

    def check(self) -> None:
        """Make sure that the lease is still held, by renewing it in the catalogue if the last renewal is too old.

        Raises:
            LockLost: another worker has it.
            ImportInterrupted: the catalogue does not answer.
        """
        if self._clock() < self._until:
            return
        with self._renewing:
            if self._clock() < self._until:
                return
            try:
                self.renew()
            except CatalogUnavailable as away:
                raise ImportInterrupted("the catalogue could not be reached to renew the lease") from away
