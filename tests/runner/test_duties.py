"""Duties go on, whatever they meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from transship.runner.duties import Patience, keep_connected, keep_doing


class Enough(BaseException):
    """Ends a duty that would go on for ever."""


def failing(faults: list[BaseException | None]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a duty that fails of one thing after the other, and then of `Enough`."""

    async def work() -> None:
        fault = faults.pop(0) if faults else Enough()
        if fault is not None:
            raise fault

    return work


def test_a_duty_that_fails_unexpectedly_is_begun_again() -> None:
    with pytest.raises(Enough):
        asyncio.run(keep_doing("test", failing([RuntimeError("odd"), None, KeyError("odd")]), again_s=0.0))


def test_a_connection_is_opened_again_whatever_ended_it() -> None:
    # Prefect's subscriber raises bare exceptions when its handshake breaks.
    faults = [Exception("Unable to authenticate"), RuntimeError("other version"), OSError("refused"), None]
    with pytest.raises(Enough):
        asyncio.run(keep_connected("test", failing(list(faults)), Patience(0.0, 0.0)))


@pytest.mark.parametrize(("worked_s", "grows"), [(60.0, True), (0.0, False)], ids=["never worked", "worked"])
def test_waits_grow_only_while_a_connection_does_not_work(worked_s: float, grows: bool) -> None:
    times: list[float] = []

    async def run() -> None:
        async def connection() -> None:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 5:
                raise Enough
            raise OSError("refused")

        await keep_connected("test", connection, Patience(0.02, 10.0, worked_s))

    with pytest.raises(Enough):
        asyncio.run(run())
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert (waits[-1] >= 0.16) is grows
