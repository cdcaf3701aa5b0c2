"""What is done again and again, whatever goes wrong once: nothing that a duty meets may end the runs of a host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import httpx
import structlog
from prefect.exceptions import PrefectException
from websockets.exceptions import WebSocketException

FAULTS: Final = (httpx.HTTPError, PrefectException, OSError, WebSocketException)
"""What Prefect's being away looks like."""

LONGEST_PAUSE_S: Final = 30.0
"""Longest wait between attempts to reach a Prefect that is away."""

AGAIN_S: Final = 5.0
"""Wait before a duty that failed in a way nobody foresaw is begun again."""

Work = Callable[[], Coroutine[Any, Any, object]]

log = structlog.get_logger("transship.runner")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts, in seconds.

    Attributes:
        first_s: the first; each next one is twice as long.
        longest_s: the longest.
        worked_s: what lasted so long has worked, so that its end is followed by a first wait again.
    """

    first_s: float = 1.0
    longest_s: float = LONGEST_PAUSE_S
    worked_s: float = 60.0


async def keep_doing(name: str, work: Work, again_s: float = AGAIN_S) -> None:
    """Do a duty until cancelled: one that fails or ends is begun again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a duty failed; it is begun again", duty=name)
        await asyncio.sleep(again_s)


async def every(name: str, seconds: float, work: Work) -> None:
    """Do something again and again; what fails because Prefect is away is tried again, ever less often."""
    pause_s = seconds
    while True:
        try:
            await work()
            pause_s = seconds
        except FAULTS as fault:
            log.warning("Prefect is away", duty=name, reason=reason_of(fault))
            pause_s = max(seconds, min(pause_s * 2, LONGEST_PAUSE_S))
        await asyncio.sleep(pause_s)


async def keep_connected(name: str, connection: Work, backoff: Backoff = Backoff()) -> None:
    """Open a connection again whenever it ends; ever less often while it does not work.

    Prefect's own event stream raises bare exceptions when a connection breaks while it is being opened.
    """
    loop = asyncio.get_running_loop()
    pause_s = backoff.first_s
    while True:
        began = loop.time()
        try:
            await connection()
        except Exception as fault:  # noqa: BLE001 - bare ones are raised; whatever it is, the look on time goes on
            log.warning("connection to Prefect ended", duty=name, reason=reason_of(fault))
        if loop.time() - began >= backoff.worked_s:
            pause_s = backoff.first_s
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, backoff.longest_s)


def reason_of(fault: BaseException) -> str:
    """Return what an exception says, for the log."""
    return str(fault) or type(fault).__name__
