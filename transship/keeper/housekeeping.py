"""Clean-up duties: sweeps on each host, lost uploads, and old secrets and rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from transship.catalog.hosts import forget_hosts, live_hosts
from transship.catalog.inventories import inventory_is_due
from transship.catalog.outbox import OutboxKind, post
from transship.catalog.removal import hosts_with_scrap, removable_locations
from transship.catalog.tasks import purge_secrets
from transship.catalog.uploads import end_lost_uploads, give_up_uploads
from transship.domain.clock import utc_now
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import WantedRun
from transship.keeper.turns import host_queue

SWEEPS_APART_S: Final = 10.0
"""Sweeps requested within this time count as one; a later check finds what the sweep missed."""

log = structlog.get_logger("transship.keeper")


def ask_for_sweep(keeper: Keeper) -> None:
    """Request housekeeping soon on every host."""
    with keeper.catalog.write() as connection:
        post(connection, OutboxKind.SWEEP, "sweep", None)


def sweep_what_is_due(keeper: Keeper) -> bool:
    """Request a sweep if there is something to remove now; return whether there is.

    A copy may be removed only when its writer's lease has expired, so the sweep at its import's end is too early.
    """
    with keeper.catalog.read() as connection:
        due_now = removable_locations(connection, older_than_s=keeper.settings.lease.ttl_s)
        found = bool(due_now or hosts_with_scrap(connection))
    if found:
        ask_for_sweep(keeper)
    return found


def sweep_for_inventories(keeper: Keeper) -> None:
    """Request a sweep if the inventory of a store, or of the staging of a live host, is due."""
    interval_s = keeper.settings.housekeeping.inventory_interval_s
    with keeper.catalog.read() as connection:
        stores = [f"store:{store}" for store in keeper.settings.all_stores]
        staging = [f"staging:{host}" for host in live_hosts(connection)]
        due = any(inventory_is_due(connection, place, interval_s) for place in (*stores, *staging))
    if due:
        ask_for_sweep(keeper)


def order_sweeps(keeper: Keeper) -> None:
    """Schedule housekeeping on every host that has a worker, or something to remove."""
    with keeper.catalog.read() as connection:
        # During the start no worker has reported yet, but this host has one or soon will.
        names = {keeper.settings.host_name, *live_hosts(connection), *hosts_with_scrap(connection)}
    moment = int(utc_now().timestamp() // SWEEPS_APART_S)
    # Only a worker on its host can reach a staging directory; avoid queueing several sweeps for a host that is down.
    waiting = keeper.prefect.waiting_tags(_sweep_tag(host) for host in names)
    for host in sorted(host for host in names if _sweep_tag(host) not in waiting):
        key, tags = f"sweep/{host}/{moment}", (_sweep_tag(host),)
        wanted = WantedRun("housekeeping", f"housekeeping on {host}", {}, key, host_queue(host), tags)
        keeper.prefect.schedule(wanted)


def free_lost_uploads(keeper: Keeper) -> int:
    """Free images whose upload lost its process; return how many."""
    ended = end_lost_uploads(keeper.catalog, utc_now())
    for image_id in ended:
        log.warning("upload lost its process; the image is queued again", image_id=image_id)
    return len(ended)


def purge(keeper: Keeper) -> None:
    """Remove secrets of tasks that can no longer be restarted, their uploaded data, and old hosts."""
    kept_since = utc_now() - timedelta(seconds=keeper.settings.lease.rerun_ttl_s)
    with keeper.catalog.write() as connection:
        purge_secrets(connection, kept_since)
        forget_hosts(connection)
    for image_id in give_up_uploads(keeper.catalog, kept_since, utc_now()):
        log.info("uploaded data expired; the image is queued again", image_id=image_id)


def _sweep_tag(host: str) -> str:
    return f"sweep:{host}"
