"""The executors that could take a run at once, and who waits for one: first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from transship.domain.errors import WarmEngineUnavailable
from transship.runner.generation import Condition, Executor


class IdleExecutors:
    """Gives executors to who asks for one.

    Args:
        give_back: called with an executor that was given to somebody who waits no longer.
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
        """How many wait for one."""
        return len(self._waiting)

    def take_now(self) -> Executor | None:
        """Return an executor that is nobody else's from now on; None without one."""
        while self._idle:
            executor = self._idle.pop()
            if executor.status is None and executor.condition is Condition.IDLE:
                executor.condition = Condition.BUSY
                return executor
        return None

    async def take(self) -> Executor:
        """Wait for an executor, as `take_now`.

        Raises:
            WarmEngineUnavailable: there will be none for now.
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
        """Let nobody wait for an executor until `serve`; who does now is told why."""
        self._refusal = reason
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(WarmEngineUnavailable(reason))
        self._waiting.clear()

    def serve(self) -> None:
        """Let everybody wait again."""
        self._refusal = ""

    def hand_over(self, executor: Executor) -> bool:
        """Give an executor to who waits longest; False if nobody does."""
        while self._waiting:
            waiting = self._waiting.pop(0)
            if not waiting.done():
                executor.condition = Condition.BUSY
                waiting.set_result(executor)
                return True
        return False

    def keep(self, executor: Executor) -> None:
        """Keep an executor for who comes next."""
        executor.condition, executor.since = Condition.IDLE, asyncio.get_running_loop().time()
        self._idle.append(executor)

    def remove(self, executor: Executor) -> None:
        """Give an executor to nobody, if it is kept here."""
        if executor in self._idle:
            self._idle.remove(executor)
