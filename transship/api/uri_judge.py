"""The URI gate as the API asks it: the resolver waits beside the threads that answer requests, never in them.

A name server that does not answer would else take one thread for each request that names its zone, and soon
nobody would be answered.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from transship.domain.uri_filter import Allowance, display_uri
from transship.sources.gate import Admitted, UriGate
from transship.sources.judging import not_in_time

AT_ONCE: Final = 32
"""Names that one process resolves at the same time; further requests wait for their turn, which takes no thread."""


class UriJudge:
    """Judges URIs for requests.

    Args:
        gate: the site's.
        timeout_s: longest wait of a request, with that for its turn.
        at_once: most names resolved at the same time. One whose request was given up counts until the resolver
            returns, for its thread is there as long.
    """

    def __init__(self, gate: UriGate, timeout_s: float, at_once: int = AT_ONCE) -> None:
        self._gate, self._timeout_s = gate, timeout_s
        self._turns = asyncio.Semaphore(at_once)

    async def admit(self, text: str, allowance: Allowance | None) -> Admitted:
        """Judge a URI and the addresses that its name has now.

        Raises:
            UriRefused: it does not pass.
            NamesUnanswered: nobody tells the address of its name, or not in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
                return await self._beside(lambda: self._gate.admit(text, allowance))
        except TimeoutError as error:
            raise not_in_time(display_uri(text)) from error

    def _beside(self, question: Callable[[], Admitted]) -> asyncio.Future[Admitted]:
        """Ask in a thread of its own, which gives the turn back when it ends, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Admitted] = loop.create_future()

        def settle(admitted: Admitted | None, error: BaseException | None) -> None:
            self._turns.release()
            if answer.done():  # the request was given up
                return
            if admitted is not None:
                answer.set_result(admitted)
            elif error is not None:
                answer.set_exception(error)

        def ask() -> None:
            admitted: Admitted | None = None
            failure: BaseException | None = None
            try:
                admitted = question()
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                failure = error
            with suppress(RuntimeError):  # the service has ended meanwhile
                loop.call_soon_threadsafe(settle, admitted, failure)

        # Daemon: a resolver that hangs must not hold up the end of the process.
        threading.Thread(target=contextvars.copy_context().run, args=(ask,), name="resolve", daemon=True).start()
        return answer
