"""``python -m transship.keeper``: run the duties until told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from config.snapshot import settings_in_force
from transship.catalog.engine import Catalog
from transship.catalog.keepers import stay_active, step_down
from transship.domain.errors import CatalogUnavailable, PrefectAway, PrefectRefused, TransshipError
from transship.host.doorbell import DOORBELL_SOCKET, Doorbell
from transship.host.logs import configure_logs
from transship.keeper.courier import Couriers, open_sinks
from transship.keeper.dispatch import tell
from transship.keeper.housekeeping import ask_for_sweep, free_lost_uploads, purge, sweep_what_is_due
from transship.keeper.keeper import Keeper
from transship.keeper.mirror import mirror_stores
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.reconcile import reconcile, settle
from transship.keeper.turns import TOLD_AT_ONCE, explain_waits, look_at_pool

TICK_S = 0.1
LEASE_TTL_S = 15.0
SWEEP_S = 600.0
SWEEP_DUE_S = 15.0

log = structlog.get_logger("transship.keeper")


@dataclass(slots=True)
class Duty:
    """Something to do every so many seconds."""

    name: str
    every_s: float
    work: Callable[[], object]
    next_at: float = 0.0

    def run_if_due(self, now: float) -> None:
        """Do it if its time has come; a fault is logged, and the duty is tried again at its next time."""
        if now < self.next_at:
            return
        self.next_at = now + self.every_s
        try:
            self.work()
        except (PrefectAway, PrefectRefused) as fault:
            log.warning("duty put off", duty=self.name, reason=str(fault))
        except (TransshipError, SQLAlchemyError) as fault:
            log.exception("duty failed", duty=self.name, reason=str(fault))


def run(keeper: Keeper, couriers: Couriers, stopped: threading.Event, wait: Callable[[float], bool]) -> None:
    """Keep going until ``stopped``; only the keeper that holds the lease acts.

    Args:
        wait: waits so many seconds, or less; returns whether there is something to tell.
    """
    telling = Duty("tell", 0.2, lambda: _tell(keeper, telling))
    sweeping = Duty("sweep what is due", SWEEP_DUE_S, lambda: sweep_due(keeper, sweeping))
    duties = [
        telling,
        Duty("reconcile", 2.0, lambda: reconcile(keeper)),
        Duty("explain waits", 2.0, lambda: explain_waits(keeper)),
        Duty("lost uploads", 2.0, lambda: free_lost_uploads(keeper)),
        Duty("settle", 10.0, lambda: settle(keeper)),
        Duty("mirror stores", 10.0, lambda: mirror_stores(keeper)),
        Duty("look at the pool", 10.0, lambda: look_at_pool(keeper)),
        # The first time as soon as this keeper is active: a start sweeps what the last end left.
        Duty("sweep", SWEEP_S, lambda: ask_for_sweep(keeper)),
        sweeping,
        Duty("purge", 600.0, lambda: purge(keeper)),
        Duty("tidy notifications", 5.0, couriers.tidy),
    ]
    active, renew_at = False, 0.0
    couriers.start()
    while not stopped.is_set():
        if wait(TICK_S if telling.next_at else 0.0):
            telling.next_at = 0.0
        now = time.monotonic()
        if now >= renew_at:
            renew_at = now + LEASE_TTL_S / 3
            active = _stay_active(keeper, active)
            (couriers.active.set if active else couriers.active.clear)()
        if active:
            for duty in duties:
                duty.run_if_due(now)
    couriers.stop()
    if active:
        step_down(keeper.catalog, keeper.owner)


def _tell(keeper: Keeper, duty: Duty) -> None:
    if tell(keeper) == TOLD_AT_ONCE:
        # There may be more.
        duty.next_at = 0.0


def sweep_due(keeper: Keeper, duty: Duty) -> None:
    """Have swept what may be removed now; look the less often the longer it stays."""
    # What cannot be removed, of a store or host that is away, is not worth a run every few seconds.
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


def _waiter(settings: Settings, stopped: threading.Event) -> Callable[[float], bool]:
    """Return how to wait: for the doorbell, or without one for the next look alone."""
    try:
        settings.run_dir.mkdir(mode=0o700, exist_ok=True)
        return Doorbell(settings.run_dir / DOORBELL_SOCKET).wait
    except OSError as error:
        log.warning("no doorbell; requests wait for the next look", reason=str(error))

    def without(timeout_s: float) -> bool:
        stopped.wait(timeout_s)
        return False

    return without


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

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    owner = f"{settings.host_name} pid {os.getpid()} {uuid4().hex[:8]}"
    run(Keeper(settings, catalog, prefect, owner), couriers, stopped, _waiter(settings, stopped))
    catalog.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
