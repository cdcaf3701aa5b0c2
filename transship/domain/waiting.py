"""Visible, interruptible waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from transship.domain.clock import utc_now
from transship.domain.stop import StopToken
from transship.domain.task import wait_text


class CopyWatch(Protocol):
    """Receives the progress of a copy, from any thread; never raises."""

    def advance(self, done_bytes: int) -> None:
        """Note that the copy is being written, and how many bytes are done; 0 when it starts or resumes."""

    def wait(self, text: str) -> None:
        """Note why the copy waits, in the form of `wait_text`."""

    def verify(self) -> None:
        """Note that the copy was written, and is being read back."""


def wait_until(
    attempt: Callable[[], bool],
    what: str,
    remedy: str,
    *,
    timeout_s: float,
    pauses_s: Iterable[float],
    stop: StopToken,
    watch: CopyWatch,
) -> bool:
    """Retry until an attempt succeeds, and return whether one did in time.

    Args:
        attempt: returns whether it succeeded.
        what, remedy: as in `wait_text`.
        timeout_s: seconds after which no further attempt is made; the first one is always made.
        pauses_s: seconds between attempts; endless.

    Raises:
        LockLost, ImportStopped: the work must end.
    """
    text, end = wait_text(what, utc_now(), remedy), time.monotonic() + timeout_s
    worked = waited = False
    for pause_s in pauses_s:
        stop.check()
        worked = attempt()
        if worked or time.monotonic() >= end:
            break
        watch.wait(text)
        waited = True
        stop.wait(pause_s)
    if waited:
        watch.advance(0)
    return worked
