"""The URI gate for the API: names are resolved in separate threads, never in those that answer requests.

Otherwise a name server that does not answer would block one thread for each request with a name in its zone, and soon
no request would be answered.
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
from transship.sources.judging import resolver_timed_out

AT_ONCE: Final = 32
"""Names that one process resolves at the same time; further requests wait, without a thread, for their turn."""
OF_ONE_ZONE: Final = 4
"""Names of one zone among these; the rest stays available for other zones if this one hangs."""


class UriJudge:
    """Judges URIs for requests.

    Args:
        gate: the site's.
        timeout_s: longest wait of a request, including the wait for its turn.
        at_once: most names resolved at the same time. A name whose request was abandoned counts until the resolver
            returns, because its thread runs until then.
        of_one_zone: most of them in one zone.
    """

    def __init__(self, gate: UriGate, timeout_s: float, at_once: int = AT_ONCE, of_one_zone: int = OF_ONE_ZONE) -> None:
        self._gate, self._timeout_s = gate, timeout_s
        self._turns = asyncio.Semaphore(at_once)
        self._of_one_zone = of_one_zone
        self._zones: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def admit(self, text: str) -> Admitted:
        """Judge a URI and its host's current addresses.

        Raises:
            UriRefused: it is refused.
            NamesUnanswered: its name could not be resolved, or not in time.
        """
        name = self._gate.name_to_resolve(text)
        if not name:
            return self._gate.admit(text)
        try:
            async with asyncio.timeout(self._timeout_s):
                turns = await self._taken(zone_of(name))
                return await self._beside(lambda: self._gate.admit(text), turns)
        except TimeoutError as error:
            raise resolver_timed_out(display_uri(text)) from error

    async def _taken(self, zone: str) -> ExitStack:
        """Wait for a turn among the names of the zone, then among all; return a stack that releases both."""
        # Callers that wait or have a turn keep the zone's semaphore alive.
        of_zone = self._zones.setdefault(zone, asyncio.Semaphore(self._of_one_zone))
        with ExitStack() as taken:
            for turns in (of_zone, self._turns):
                await turns.acquire()
                taken.callback(turns.release)
            return taken.pop_all()

    def _beside(self, question: Callable[[], Admitted], turns: ExitStack) -> asyncio.Future[Admitted]:
        """Ask in a separate thread, which releases the turns when it ends, even if nothing waits for it any more."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Admitted] = loop.create_future()

        def settle(admitted: Admitted | None, error: BaseException | None) -> None:
            turns.close()
            if answer.done():  # the request was abandoned
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

        # Daemon: a hung resolver must not delay the end of the process.
        threading.Thread(target=contextvars.copy_context().run, args=(ask,), name="resolve", daemon=True).start()
        return answer


def zone_of(name: str) -> str:
    """Return the last two labels of a host name, which include the whole zone of one party's name servers.

    Under a suffix of two labels, such as ``co.uk``, several parties share a zone and its turns.
    """
    return ".".join(name.rsplit(".", 2)[-2:])
