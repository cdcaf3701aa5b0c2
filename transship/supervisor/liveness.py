"""Waits for a starting component as long as it shows signs of life, without a limit on the total time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IDLE_SHARE: Final = 0.005
"""Share of one processor below which a component counts as idle; an event loop with timers uses less."""


def stalled(limit_s: float) -> str:
    """Return the reason for which a silent component is given up."""
    return f"not ready after {limit_s:g} s without CPU time and output (supervisor.start_timeout_s)"


@dataclass(frozen=True, slots=True)
class Vitals:
    """A component's activity as seen from outside.

    Attributes:
        starts: how often it was started.
        lines: how many lines it has written.
        cpu_s: CPU seconds of its process and all descendants.
    """

    starts: int
    lines: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a component has shown no sign of life.

    Attributes:
        seen: its vitals at the last sign.
        lasted_s: seconds since then.
    """

    seen: Vitals
    lasted_s: float = 0.0

    def after(self, now: Vitals, elapsed_s: float, limit_s: float) -> Silence:
        """Return the silence after another check; it is 0 after a sign of life.

        Output, a new start, and more CPU time than `IDLE_SHARE` of the limit are signs of life.

        Args:
            now: the current vitals.
            elapsed_s: seconds since the previous check.
            limit_s: silence after which the component counts as hung.
        """
        said = (now.starts, now.lines) != (self.seen.starts, self.seen.lines)
        worked = abs(now.cpu_s - self.seen.cpu_s) >= IDLE_SHARE * limit_s
        return Silence(now) if said or worked else Silence(self.seen, self.lasted_s + elapsed_s)
