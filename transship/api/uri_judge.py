"""The URI gate as the API asks it: the resolver waits beside the threads that answer requests, never in them.

A name server that does not answer would else take one thread for each request that names its zone, and soon
nobody would be answered.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final
from weakref import WeakValueDictionary

from transship.domain.uri_filter import display_uri
from transship.sources.gate import Admitted, UriGate
from transship.sources.judging import not_in_time

AT_ONCE: Final = 32
"""Names that one process resolves at the same time; further requests wait for their turn, which takes no thread."""
OF_ONE_ZONE: Final = 4
"""Of these, names of one zone: the others are for those who name another one, whatever becomes of it."""


class UriJudge:
    """Judges URIs for requests.

    Args:
        gate: the site's.
        timeout_s: longest wait of a request, with that for its turn.
        at_once: most names resolved at the same time. One whose request was given up counts until the resolver
            returns, for its thread is there as long.
        of_one_zone: most of them that belong to one zone.
    """

    def __init__(self, gate: UriGate, timeout_s: float, at_once: int = AT_ONCE, of_one_zone: int = OF_ONE_ZONE) -> None:
        self._gate, self._timeout_s = gate, timeout_s
        self._turns = asyncio.Semaphore(at_once)
        self._of_one_zone = of_one_zone
        self._zones: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def admit(self, text: str) -> Admitted:
        """Judge a URI and the addresses that its name has now.

        Raises:
            UriRefused: it does not pass.
            NamesUnanswered: nobody tells the address of its name, or not in time.
        """
        name = self._gate.name_to_resolve(text)
        if not name:
            return self._gate.admit(text)
        try:
            async with asyncio.timeout(self._timeout_s):
                turns = await self._taken(zone_of(name))
                return await self._beside(lambda: self._gate.admit(text), turns)
        except TimeoutError as error:
            raise not_in_time(display_uri(text)) from error

    async def _taken(self, zone: str) -> ExitStack:
        """Wait for a turn among the names of the zone, then among all; return what gives both back."""
        # Whoever waits or has a turn keeps the zone's semaphore alive.
        of_zone = self._zones.setdefault(zone, asyncio.Semaphore(self._of_one_zone))
        with ExitStack() as taken:
            for turns in (of_zone, self._turns):
                await turns.acquire()
                taken.callback(turns.release)
            return taken.pop_all()

    def _beside(self, question: Callable[[], Admitted], turns: ExitStack) -> asyncio.Future[Admitted]:
        """Ask in a thread of its own, which gives the turns back when it ends, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Admitted] = loop.create_future()

        def settle(admitted: Admitted | None, error: BaseException | None) -> None:
            turns.close()
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


def zone_of(name: str) -> str:
    """Return the last two labels of a host name: never less than the zone that one party's name servers answer for.

    Under suffixes of two labels, as ``co.uk``, it is more than that: those who share it share its turns.
    """
    return ".".join(name.rsplit(".", 2)[-2:])
