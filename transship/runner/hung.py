"""When a process that carries a run is given up although it lives. Pure decisions.

A process may hang as a whole (SIGSTOP, a frozen disk) or in its renewing thread alone. What tells is its lease: once
the keeper has taken that for lost, the import goes on in another process, and this one only takes up a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transship.catalog.carriers import Standing

LOST_S: Final = 5.0
"""Time that a process which lost its import has to notice that, and to end by itself."""

ENDED_S: Final = 120.0
"""Time that a process whose import has ended has to tell Prefect so, which may be restarting."""


@dataclass(slots=True)
class Grip:
    """What is known of a process and the import of its run.

    Attributes:
        had_import: it was seen to hold the lease.
        offered_again: Prefect offered the run while it was carried, as after a Retry, or when the keeper resumed it.
        without_since: since when it has been without the lease that it should have; None while all is well.
    """

    had_import: bool = False
    offered_again: bool = False
    without_since: float | None = None

    def is_lost(self, standing: Standing, now: float) -> bool:
        """Note how the import is now; return whether the process is to be killed.

        Args:
            now: seconds of a clock that never goes back.
        """
        if standing is Standing.HELD:
            self.had_import, self.without_since = True, None
            return False
        # A process that begins has no lease yet.
        expected = self.had_import or (self.offered_again and standing is Standing.ELSEWHERE)
        if standing is Standing.NO_IMPORT or not expected:
            self.without_since = None
            return False
        if self.without_since is None:
            self.without_since = now
        return now - self.without_since >= (ENDED_S if standing is Standing.ENDED else LOST_S)
