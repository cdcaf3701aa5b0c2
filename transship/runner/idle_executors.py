"""The idle executors, and the queue of callers that wait for one, first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from transship.domain.errors import WarmEngineUnavailable
from transship.runner.generation import Condition, Executor


class IdleExecutors:
    """Hands out executors.

    Args:
        give_back: called with an executor that was assigned to a caller that no longer waits.
    """

    def __init__(self, give_back: Callable[[Executor], None]) -> None:
        self._give_back = give_back
        self._idle: list[Executor] = []
        self._waiting: list[asyncio.Future[Executor]] = []
        self._refusal = ""

    def __len__(self) -> int:
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        """Number of callers that wait for an executor."""
        return len(self._waiting)

    def take_now(self) -> Executor | None:
        """Take an idle executor; None if there is none."""
        while self._idle:
            executor = self._idle.pop()
            if executor.status is None and executor.condition is Condition.IDLE:
                executor.condition = Condition.BUSY
                return executor
        return None

    async def take(self) -> Executor:
        """Wait for an idle executor and take it.

        Raises:
            WarmEngineUnavailable: none will become available for now.
        """
        if self._refusal:
            raise WarmEngineUnavailable(self._refusal)
        executor = self.take_now()
        if executor is not None:
            return executor
        waiting: asyncio.Future[Executor] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._give_back(waiting.result())
            raise

    def refuse(self, reason: str) -> None:
        """Refuse all current and new callers until `serve`; they get the reason."""
        self._refusal = reason
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(WarmEngineUnavailable(reason))
        self._waiting.clear()

    def serve(self) -> None:
        """Accept callers again."""
        self._refusal = ""

    def hand_over(self, executor: Executor) -> bool:
        """Assign an executor to the first caller in the queue; return False if the queue is empty."""
        while self._waiting:
            waiting = self._waiting.pop(0)
            if not waiting.done():
                executor.condition = Condition.BUSY
                waiting.set_result(executor)
                return True
        return False

    def keep(self, executor: Executor) -> None:
        """Keep an executor for the next caller, who gets the one used last: it is the quickest."""
        executor.condition, executor.since = Condition.IDLE, asyncio.get_running_loop().time()
        self._idle.insert(len(self._idle) if executor.runs else 0, executor)

    def rested(self, since: float) -> Executor | None:
        """Return one that has carried runs, but none since a moment of the loop's clock; never the one used last."""
        return next((one for one in self._idle[:-1] if one.runs and one.since < since), None)

    def remove(self, executor: Executor) -> None:
        """Remove an executor if it is kept here."""
        if executor in self._idle:
            self._idle.remove(executor)
