"""Duties continue after any error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from transship.runner import duties
from transship.runner.duties import Backoff, keep_connected, keep_doing


class Enough(BaseException):
    """Ends an endless duty."""


def failing(faults: list[BaseException | None]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a duty that fails with each of the errors in turn, and then with `Enough`."""

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
        asyncio.run(keep_connected("test", failing(list(faults)), Backoff(0.0, 0.0)))


@pytest.mark.parametrize(
    ("worked_s", "waits"), [(3600.0, [1, 2, 4, 5, 5]), (0.0, [1, 1, 1, 1, 1])], ids=["never worked", "worked"]
)
def test_waits_grow_only_while_a_connection_does_not_work(
    monkeypatch: pytest.MonkeyPatch, worked_s: float, waits: list[float]
) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    async def run() -> None:
        await keep_connected("test", failing([OSError("refused")] * 5), Backoff(1.0, 5.0, worked_s))

    clock = asyncio.get_running_loop
    monkeypatch.setattr(duties, "asyncio", SimpleNamespace(sleep=note, get_running_loop=clock))
    with pytest.raises(Enough):
        asyncio.run(run())
    assert waited == waits
