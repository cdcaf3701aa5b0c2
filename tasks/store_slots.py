"""Slots of a store: how many copies all hosts write to it at the same time, as a global limit of Prefect.

A limit spares a store; it never keeps an image out of it. Where Prefect does not answer, or no slot comes free in
time, the copy is written without one.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from uuid import UUID

import httpx
import structlog
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import PrefectException

from config.settings import ImportSettings, store_limit_name
from transship.domain.stop import StopToken
from transship.domain.waiting import CopyWatch, wait_until

LEASE_S: Final = 60.0
"""A slot whose holder died is free again after this time; the least that Prefect accepts."""
RENEW_S: Final = LEASE_S / 3
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 2.0

AWAY: Final = (httpx.HTTPError, PrefectException, ValueError)
"""What Prefect's being away, or without our limit, looks like; ValueError: no server is named."""

log = structlog.get_logger("transship.slots")


@contextmanager
def store_slot(imports: ImportSettings, store: str, stop: StopToken, watch: CopyWatch) -> Iterator[None]:
    """Hold a slot of a store for the length of a block, if the store has a limit.

    Raises:
        LockLost, ImportStopped: the import must end; no slot is held then.
    """
    lease = _wait_for_slot(imports, store, stop, watch) if store in imports.store_slots else None
    if lease is None:
        yield
        return
    ended = threading.Event()
    context = contextvars.copy_context()
    renewal = threading.Thread(target=context.run, args=(_renew, lease, store, ended), name="store-slot", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        _give_back(lease, store)


def _wait_for_slot(imports: ImportSettings, store: str, stop: StopToken, watch: CopyWatch) -> UUID | None:
    """Return the lease of a slot, None when the copy has to do without."""
    lease: UUID | None = None

    def taken() -> bool:
        nonlocal lease
        try:
            lease = _take(store)
        except httpx.HTTPStatusError as refused:
            if refused.response.status_code == HTTPStatus.LOCKED:
                return False
            log.warning("store limit not asked; going on without", store=store, reason=str(refused))
        except AWAY as away:
            log.warning("store limit not asked; going on without", store=store, reason=str(away))
        return True

    in_time = wait_until(
        taken,
        "a slot of its store",
        f"it goes on when other copies end or the limit {store_limit_name(store)} is raised in Prefect",
        patience_s=imports.store_slot_timeout_s,
        pauses_s=_pauses_s(),
        stop=stop,
        watch=watch,
    )
    if not in_time:
        waited_s = imports.store_slot_timeout_s
        log.warning("no slot of the store came free in time; going on without", store=store, waited_s=waited_s)
    return lease


def _pauses_s() -> Iterator[float]:
    pause_s = FIRST_WAIT_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_WAIT_S)


def _take(store: str) -> UUID | None:
    name = store_limit_name(store)
    with get_client(sync_client=True) as client:
        answer = client.increment_concurrency_slots_with_lease([name], 1, "concurrency", LEASE_S)
    taken = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
    if not taken.limits:
        log.warning("the store's limit is not in Prefect; 'transship deploy' makes it", store=store, limit=name)
        return None
    return taken.lease_id


def _renew(lease: UUID, store: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        try:
            with get_client(sync_client=True) as client:
                client.renew_concurrency_lease(lease, LEASE_S)
        except AWAY as away:
            log.warning("slot not renewed; others may take it", store=store, reason=str(away))


def _give_back(lease: UUID, store: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots_with_lease(lease)
    except AWAY as away:
        log.warning("slot not given back; its lease ends soon", store=store, reason=str(away))
