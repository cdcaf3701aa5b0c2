"""``python -m transship.keeper``: run the keeper's duties until stopped."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.snapshot import settings_in_force
from transship.catalog.agenda import Agenda, agenda
from transship.catalog.bell import Ring
from transship.catalog.engine import Catalog
from transship.catalog.keepers import stay_active, step_down
from transship.domain.errors import CatalogUnavailable, PrefectAway, PrefectRefused, TransshipError
from transship.host.doorbell import DOORBELL_SOCKET, ring
from transship.host.logs import configure_logs
from transship.keeper import KEEPER_READY
from transship.keeper.courier import Couriers, open_sinks
from transship.keeper.dispatch import send_outbox
from transship.keeper.housekeeping import free_lost_uploads, purge, sweep_for_inventories, sweep_what_is_due
from transship.keeper.keeper import Keeper
from transship.keeper.mirror import mirror_stores
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.reconcile import SETTLE_AFTER_S, reconcile, settle
from transship.keeper.turns import explain_waits, refresh_pool
from transship.keeper.waking import Wait, Wakeups

LEASE_TTL_S: Final = 15.0
LEASE_RENEWED_S: Final = 7.0
POLL_S: Final = 30.0
"""Longest time between two reads of the agenda: a ring may be lost, and runs started by hand do not ring."""
SWEEP_S: Final = 600.0
SWEEP_DUE_S: Final = 15.0
WAITING_TURN_S: Final = 2.0
"""Seconds between checks of imports that wait for their turn; the end of an import causes additional checks."""

log = structlog.get_logger("transship.keeper")


@dataclass(slots=True)
class Duty:
    """Periodic work that runs while the agenda requires it.

    Attributes:
        wanted_in_s: returns in how many seconds the agenda requires it; None: not now.
        delay_s: delay in seconds before the first run after it becomes required.
        changes: whether it may change the agenda.
    """

    name: str
    every_s: float
    work: Callable[[], object]
    wanted_in_s: Callable[[Agenda], float | None] = lambda _agenda: 0.0
    delay_s: float = 0.0
    changes: bool = True
    next_at: float = 0.0
    not_before: float = 0.0

    def run_if_due(self, now: float) -> bool:
        """Run the duty if it is due; errors are logged, and the duty runs again at its next time."""
        if now < self.next_at:
            return False
        self.next_at = self.not_before = now + self.every_s
        try:
            self.work()
        except (PrefectAway, PrefectRefused) as fault:
            log.warning("duty put off", duty=self.name, reason=str(fault))
        except (TransshipError, SQLAlchemyError) as fault:
            log.exception("duty failed", duty=self.name, reason=str(fault))
        return True

    def plan(self, agenda: Agenda, now: float) -> None:
        """Set the time of the next run."""
        wanted = self.wanted_in_s(agenda)
        if wanted is None:
            self.next_at = math.inf
            return
        if self.next_at == math.inf:
            self.not_before = max(self.not_before, now + self.delay_s)
        # Work that the agenda schedules for a time is done then; other work waits for its own interval.
        self.next_at = now + wanted if wanted > 0 else max(self.not_before, now)


class Duties:
    """The duties of an active keeper, run as the agenda requires.

    Attributes:
        look_at: when to read the agenda next, in seconds of the monotonic clock.
    """

    def __init__(self, keeper: Keeper, couriers: Couriers) -> None:
        self._keeper = keeper
        self.look_at = 0.0
        self._dispatching = Duty("dispatch", WAITING_TURN_S, self._dispatch, lambda agenda: agenda.outbox_in_s)
        sweeping = Duty("sweep what is due", SWEEP_DUE_S, lambda: sweep_due(keeper, sweeping), _if_leftovers)
        self._all = (
            self._dispatching,
            Duty("reconcile", 2.0, lambda: reconcile(keeper), _if_unfinished, delay_s=2.0),
            Duty("explain waits", 2.0, lambda: explain_waits(keeper), _if_queued, delay_s=2.0),
            Duty("lost uploads", 2.0, lambda: free_lost_uploads(keeper), lambda agenda: agenda.upload_lost_in_s),
            Duty("settle", 10.0, lambda: settle(keeper), _when_settled),
            Duty("mirror stores", 10.0, lambda: mirror_stores(keeper), changes=False),
            Duty("refresh the pool", 10.0, lambda: refresh_pool(keeper), _if_unfinished, changes=False),
            Duty("take inventories", SWEEP_S, lambda: sweep_for_inventories(keeper)),
            sweeping,
            Duty("purge", 600.0, lambda: purge(keeper)),
            Duty("tidy notifications", 5.0, couriers.tidy, _if_notifications, delay_s=5.0),
        )

    @property
    def next_at(self) -> float:
        """When the next work is due, in seconds of the monotonic clock."""
        return min(self.look_at, *(duty.next_at for duty in self._all))

    def wake(self, rung: frozenset[Ring]) -> None:
        """Read the agenda at once if it may have changed; the end of an import lets another one start."""
        waits = self._dispatching.next_at < math.inf
        self._dispatching.not_before = 0.0
        if Ring.WORK in rung or waits:
            self.look_at = 0.0

    def do(self, now: float) -> None:
        """Run the duties that are due."""
        if now >= self.look_at:
            self._look(now)
        done = [duty for duty in self._all if duty.run_if_due(now)]
        if any(duty.changes for duty in done):
            self.look_at = 0.0

    def _look(self, now: float) -> None:
        try:
            with self._keeper.catalog.statement() as connection:
                found = agenda(connection)
        except (SQLAlchemyError, CatalogUnavailable) as error:
            log.warning("agenda cannot be read", reason=str(error))
            self.look_at = now + WAITING_TURN_S
            return
        self.look_at = now + POLL_S
        for duty in self._all:
            duty.plan(found, now)

    def _dispatch(self) -> None:
        if send_outbox(self._keeper):
            # There may be more rows; imports that wait for their turn are checked later.
            self._dispatching.not_before = 0.0


def run(keeper: Keeper, couriers: Couriers, stopped: threading.Event, wait: Wait) -> None:
    """Run until ``stopped``; only the keeper with the lease acts, and it sleeps until work is due."""
    duties = Duties(keeper, couriers)
    active, renew_at = False, 0.0
    couriers.start()
    while not stopped.is_set():
        next_at = min(renew_at, duties.next_at) if active else renew_at
        rung = wait(max(0.0, next_at - time.monotonic()))
        now = time.monotonic()
        if rung:
            couriers.ring()
            duties.wake(rung)
        if now >= renew_at:
            renew_at = now + LEASE_RENEWED_S
            was_active, active = active, _stay_active(keeper, active)
            (couriers.active.set if active else couriers.active.clear)()
            if active and not was_active:
                duties.look_at = 0.0
                couriers.ring()
        if active:
            duties.do(now)
    couriers.stop()
    if active:
        step_down(keeper.catalog, keeper.owner)


def _if_unfinished(found: Agenda) -> float | None:
    return 0.0 if found.unfinished else None


def _if_queued(found: Agenda) -> float | None:
    return 0.0 if found.queued else None


def _if_leftovers(found: Agenda) -> float | None:
    return 0.0 if found.leftovers else None


def _if_notifications(found: Agenda) -> float | None:
    return 0.0 if found.notifications else None


def _when_settled(found: Agenda) -> float | None:
    return None if found.ended_s_ago is None else SETTLE_AFTER_S - found.ended_s_ago


def sweep_due(keeper: Keeper, duty: Duty) -> None:
    """Request a sweep for what may be removed now; check less often the longer it cannot be removed."""
    # Leftovers of an unavailable store or host are not worth a run every few seconds.
    duty.every_s = min(2 * duty.every_s, SWEEP_S) if sweep_what_is_due(keeper) else SWEEP_DUE_S


def _stay_active(keeper: Keeper, was_active: bool) -> bool:
    try:
        active = stay_active(keeper.catalog, keeper.owner, LEASE_TTL_S)
    except (SQLAlchemyError, CatalogUnavailable) as error:
        log.warning("keeper lease not renewed", reason=str(error))
        return False
    if active != was_active:
        log.info("keeper is active" if active else "another keeper is active; waiting")
    return active


def main() -> int:
    """Run the keeper; return the exit code."""
    try:
        loaded = settings_in_force()
        settings = loaded.settings
        configure_logs(settings.log.level, "keeper")
        catalog = Catalog.open(settings)
        prefect = PrefectApi.of(settings)
        couriers = Couriers(catalog, open_sinks(settings, loaded.texts), settings.notifications.backlog_limit)
    except TransshipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()
        # Python resumes an interrupted wait after a signal, so wake the keeper explicitly.
        ring(settings.run_dir / DOORBELL_SOCKET)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    owner = f"{settings.host_name} pid {os.getpid()} {uuid4().hex[:8]}"
    wakeups = Wakeups(settings, catalog)
    print(KEEPER_READY, flush=True)
    run(Keeper(settings, catalog, prefect, owner), couriers, stopped, wakeups.wait)
    wakeups.close()
    catalog.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
