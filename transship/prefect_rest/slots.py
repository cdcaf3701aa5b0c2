"""Slots of a store limit how many copies all hosts write to it at the same time; a global limit in Prefect.

A limit may delay a copy but never fails it. If Prefect does not answer, or no slot becomes free in time, the copy is
written without one.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import structlog

from config.settings import ImportSettings, store_limit_name
from transship.domain.errors import ConfigurationRefused, PrefectAway, PrefectRefused
from transship.domain.stop import StopToken
from transship.domain.waiting import CopyWatch, wait_until
from transship.prefect_rest.client import PrefectRest

LEASE_S: Final = 60.0
"""Seconds after which the slot of a dead holder becomes free; the minimum that Prefect accepts."""
RENEW_S: Final = LEASE_S / 3
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 2.0
LIMITS: Final = "/v2/concurrency_limits"

NOT_ASKED: Final = (PrefectAway, PrefectRefused, ConfigurationRefused)
"""Errors when Prefect is away, does not know our limit, or is not configured."""

log = structlog.get_logger("transship.slots")


@dataclass(frozen=True, slots=True)
class StoreSlots:
    """The slots of all stores that have a limit.

    Attributes:
        imports: settings that name these stores and say how long a copy waits.
        connect: returns a client for Prefect, or raises ConfigurationRefused.
    """

    imports: ImportSettings
    connect: Callable[[], PrefectRest]

    @contextmanager
    def hold(self, store: str, stop: StopToken, watch: CopyWatch) -> Iterator[None]:
        """Hold a slot of a store for the duration of a block, if the store has a limit.

        Raises:
            LockLost, ImportStopped: the work must end; no slot is held then.
        """
        lease = self._taken(store, stop, watch) if store in self.imports.store_slots else None
        if lease is None:
            yield
            return
        ended = threading.Event()
        context = contextvars.copy_context()
        renewal = threading.Thread(
            target=context.run, args=(self._renew, lease, store, ended), name="store-slot", daemon=True
        )
        renewal.start()
        try:
            yield
        finally:
            ended.set()
            renewal.join()
            self._give_back(lease, store)

    def _taken(self, store: str, stop: StopToken, watch: CopyWatch) -> str | None:
        """Return the lease of a slot; None when the copy is written without one."""
        lease: str | None = None

        def taken() -> bool:
            nonlocal lease
            try:
                lease = self._take(store)
            except PrefectRefused as refused:
                if refused.status == HTTPStatus.LOCKED:
                    return False
                log.warning("store limit not available; writing without a slot", store=store, reason=str(refused))
            except NOT_ASKED as away:
                log.warning("store limit not available; writing without a slot", store=store, reason=str(away))
            return True

        timeout_s = self.imports.store_slot_timeout_s
        in_time = wait_until(
            taken,
            "a slot of its store",
            f"it continues when other copies end or the limit {store_limit_name(store)} is raised in Prefect",
            timeout_s=timeout_s,
            pauses_s=_pauses_s(),
            stop=stop,
            watch=watch,
        )
        if not in_time:
            log.warning("no slot of the store free in time; writing without one", store=store, waited_s=timeout_s)
        return lease

    def _take(self, store: str) -> str | None:
        """Return the lease of a slot, None when the limit does not exist.

        Raises:
            PrefectRefused: HTTP 423: none is free.
            PrefectAway, PrefectRefused, ConfigurationRefused: Prefect could not be asked, or refused.
        """
        name = store_limit_name(store)
        body = {"names": [name], "slots": 1, "mode": "concurrency", "lease_duration": LEASE_S}
        taken = self._ask(f"{LIMITS}/increment-with-lease", body)
        if not taken["limits"]:
            log.warning("the store's limit is not in Prefect; 'transship deploy' creates it", store=store, limit=name)
            return None
        return str(taken["lease_id"])

    def _renew(self, lease: str, store: str, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            try:
                self._ask(f"{LIMITS}/leases/{lease}/renew", {"lease_duration": LEASE_S})
            except NOT_ASKED as away:
                log.warning("slot not renewed; others may take it", store=store, reason=str(away))

    def _give_back(self, lease: str, store: str) -> None:
        try:
            self._ask(f"{LIMITS}/decrement-with-lease", {"lease_id": lease})
        except NOT_ASKED as away:
            log.warning("slot not released; its lease will expire", store=store, reason=str(away))

    def _ask(self, path: str, body: object) -> Any:
        with self.connect() as prefect:
            return prefect.call("POST", path, body)


def _pauses_s() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
