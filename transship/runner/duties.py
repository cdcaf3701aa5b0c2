"""Runs periodic duties so that their failures never end the runs of a host."""

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
"""Errors when Prefect is away."""

LONGEST_PAUSE_S: Final = 30.0
"""Longest wait between attempts to reach Prefect while it is away."""

AGAIN_S: Final = 5.0
"""Delay before a duty is restarted after an unexpected error."""

Work = Callable[[], Coroutine[Any, Any, object]]

log = structlog.get_logger("transship.runner")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts, in seconds.

    Attributes:
        first_s: the first wait; each next one is twice as long.
        longest_s: the longest wait.
        worked_s: after an attempt that lasted this long, the waits start over.
    """

    first_s: float = 1.0
    longest_s: float = LONGEST_PAUSE_S
    worked_s: float = 60.0


async def keep_doing(name: str, work: Work, again_s: float = AGAIN_S) -> None:
    """Run a duty until cancelled; restart it when it fails or ends."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("duty failed; restarting it", duty=name)
        await asyncio.sleep(again_s)


async def every(name: str, seconds: float, work: Work) -> None:
    """Run work periodically; while Prefect is away, retry with growing delays."""
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
    """Reopen a connection whenever it ends, with growing delays while it does not work.

    Prefect's event stream raises bare exceptions when a connection breaks while it is being opened.
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
    """Return the text of an exception, for the log."""
    return str(fault) or type(fault).__name__
