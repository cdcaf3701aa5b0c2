"""How long a component that starts is waited for: as long as it shows signs of life, whatever the time in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IDLE_SHARE: Final = 0.005
"""Share of one processor below which a component only waits; an event loop that looks at its clock uses less."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is seen of a component from outside.

    Attributes:
        starts: how often it was started.
        lines: how many lines it has written.
        cpu_s: CPU time of its process and all below it, seconds.
    """

    starts: int
    lines: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Time that a component has shown no sign of life.

    Attributes:
        seen: its vitals at the last sign.
        lasted_s: seconds since then.
    """

    seen: Vitals
    lasted_s: float = 0.0

    def after(self, now: Vitals, elapsed_s: float, limit_s: float) -> Silence:
        """Return the silence after one more look: none when there was a sign of life.

        Output, a new start, and more CPU time than `IDLE_SHARE` of the limit are signs of life.

        Args:
            now: what is seen.
            elapsed_s: seconds since the look before.
            limit_s: silence after which the component is given up.
        """
        said = (now.starts, now.lines) != (self.seen.starts, self.seen.lines)
        worked = abs(now.cpu_s - self.seen.cpu_s) >= IDLE_SHARE * limit_s
        return Silence(now) if said or worked else Silence(self.seen, self.lasted_s + elapsed_s)
