"""The fence: until when a process may believe that it still holds its lease.

A process that was stopped for a while (SIGSTOP, a sleeping laptop, a hanging disk) wakes up in the middle of
whatever it did, long before its renewal thread finds out that somebody else carries the import now. So whoever is
about to do what cannot be taken back asks here; after too long a silence the catalogue is asked first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from transship.domain.errors import CatalogUnavailable, ImportInterrupted


def _now() -> float:
    # Goes on while the machine sleeps, unlike time.monotonic.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Watch over one lease.

    Args:
        renew: renews the lease in the catalogue; raises LockLost or CatalogUnavailable.
        ttl_s: seconds that a renewal lasts.
        clock: seconds that never stand still.
    """

    def __init__(self, renew: Callable[[], None], ttl_s: float, clock: Callable[[], float] = _now) -> None:
        self._renew = renew
        self._ttl_s = ttl_s
        self._clock = clock
        self._renewing = threading.Lock()
        # The lease was taken a moment before this was made; nobody knows how long that moment was.
        self._until = clock() + ttl_s / 2

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            LockLost: somebody else has it.
            CatalogUnavailable: it is as it was.
        """
        # Counted from before the question: the answer may have taken its time.
        asked_at = self._clock()
        self._renew()
        self._until = asked_at + self._ttl_s

    def check(self) -> None:
        """Make sure that the lease was renewed within its time, by asking the catalogue where that is not known.

        Raises:
            LockLost: somebody else has it.
            ImportInterrupted: the catalogue does not say.
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
