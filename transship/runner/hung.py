"""When to kill a process that still runs but has lost its import. Pure decisions.

A process may hang as a whole (SIGSTOP, a frozen disk) or only in the thread that renews its lease. Once the keeper
considers the lease lost, the import continues in another process, and this one only occupies a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transship.catalog.carriers import Standing

LOST_S: Final = 5.0
"""Time for a process that lost its import to notice and to end."""

ENDED_S: Final = 120.0
"""Time for a process whose import has ended to report that to Prefect, which may be restarting."""


@dataclass(slots=True)
class HangCheck:
    """What is known about a process and the import of its run.

    Attributes:
        had_import: whether it was seen to hold the lease.
        offered_again: whether Prefect offered the run again meanwhile, after a Retry or when the keeper resumed it.
        without_since: since when it has lacked the lease that it should hold; None if it holds it.
    """

    had_import: bool = False
    offered_again: bool = False
    without_since: float | None = None

    def is_lost(self, standing: Standing, now: float) -> bool:
        """Record the state of the import; return whether to kill the process.

        Args:
            now: seconds of a monotonic clock.
        """
        if standing is Standing.HELD:
            self.had_import, self.without_since = True, None
            return False
        # A starting process has no lease yet.
        expected = self.had_import or (self.offered_again and standing is Standing.ELSEWHERE)
        if standing is Standing.NO_IMPORT or not expected:
            self.without_since = None
            return False
        if self.without_since is None:
            self.without_since = now
        return now - self.without_since >= (ENDED_S if standing is Standing.ENDED else LOST_S)
