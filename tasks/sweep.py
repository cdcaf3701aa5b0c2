"""Remove leftovers named in the journal. What no row names is listed but never touched."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from config.settings import Settings
from config.snapshot import settings_in_force
from tasks.stores import using_store
from transship.catalog.engine import Catalog
from transship.catalog.inventories import inventory_is_due, write_inventory
from transship.catalog.journal import drop_staged, known_urls, staged_names
from transship.catalog.removal import (
    removable_locations,
    scrap_of_host,
    scrap_staged,
)
from transship.domain.errors import TransferFailed
from transship.placing.removal import remove_leftover
from transship.staging.area import StagingArea
from transship.staging.opening import open_staging

LISTED_IN_LOG: Final = 20
"""Most names of strays in one log line."""

log = structlog.get_logger("transship.sweep")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        removed: names of what was removed.
        kept: name and reason of what could not be removed now.
        unknown: names without a journal row, each prefixed with its place.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@task(name="sweep-staging", task_run_name="sweep staging of {host}", cache_policy=NO_CACHE, retries=0)
def sweep_staging(host: str) -> Swept:
    """Remove scrap from this host's staging directory, and list what no row names.

    Raises:
        ConfigurationRefused: the directory serves another catalogue; nothing was touched.
    """
    settings, catalog = opened()
    area = StagingArea(settings.staging_dir, host, settings.staging.free_floor_bytes)
    with closing(catalog):
        open_staging(catalog, area)
        return _sweep_staging(catalog, area)


def _sweep_staging(catalog: Catalog, area: StagingArea) -> Swept:
    removed, kept = [], []
    with catalog.read() as connection:
        known = staged_names(connection, area.host)
        rows = scrap_of_host(connection, area.host)
    for row in rows:
        if area.being_written(row.name):
            kept.append(f"{row.name}: still being written")
            continue
        if not scrap_staged(catalog, row):
            continue
        try:
            area.remove(row.name)
        except TransferFailed as failed:
            kept.append(f"{row.name}: {failed}")
            continue
        with catalog.write() as connection:
            drop_staged(connection, row.name, area.host)
        removed.append(row.name)
    # Read the rows before and after the files: a file created or removed meanwhile has its row in one of the two.
    found = area.names()
    with catalog.read() as connection:
        known |= staged_names(connection, area.host)
    return Swept(tuple(removed), tuple(kept), _listed(catalog, f"staging:{area.host}", found, known))


@task(name="sweep-stores", task_run_name="sweep stores", cache_policy=NO_CACHE, retries=0)
def sweep_stores() -> Swept:
    """Remove copies that are marked for removal and have no writer; list what is not ours when due."""
    settings, catalog = opened()
    with closing(catalog):
        swept = _remove_copies(settings, catalog)
        return Swept(swept.removed, swept.kept, _take_inventories(settings, catalog))


def _remove_copies(settings: Settings, catalog: Catalog) -> Swept:
    removed, kept = [], []
    with catalog.read() as connection:
        rows = removable_locations(connection, older_than_s=settings.lease.ttl_s)
    using = partial(using_store, settings=settings, catalog=catalog)
    for row in rows:
        try:
            if remove_leftover(catalog, row, using, ttl_s=settings.lease.ttl_s):
                removed.append(row.url)
        except TransferFailed as failed:
            kept.append(f"{row.url}: {failed}")
    return Swept(tuple(removed), tuple(kept))


def _take_inventories(settings: Settings, catalog: Catalog) -> tuple[str, ...]:
    strays: list[str] = []
    for store in settings.all_stores:
        with catalog.read() as connection:
            due = inventory_is_due(connection, f"store:{store}", settings.housekeeping.inventory_interval_s)
            known = known_urls(connection, store)
        if not due:
            continue
        try:
            with using_store(store, settings, catalog) as driver:
                contents = list(driver.contents())
        except TransferFailed as failed:
            log.warning("store not listed", store=store, reason=str(failed))
            continue
        with catalog.read() as connection:
            known |= known_urls(connection, store)
        ours = {content.name for content in contents if content.url in known}
        strays += _listed(catalog, f"store:{store}", [content.name for content in contents], ours)
    return tuple(strays)


def _listed(catalog: Catalog, place: str, found: list[str], known: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Record the unknown names in a place, and return them."""
    strays = sorted(name for name in found if name not in known)
    with catalog.write() as connection:
        write_inventory(connection, place, strays)
    if strays:
        names = strays[:LISTED_IN_LOG]
        log.warning("unknown files found; they are left alone", place=place, count=len(strays), names=names)
    return tuple(f"{place} {name}" for name in strays)


def opened() -> tuple[Settings, Catalog]:
    """Return the settings in force and the open catalogue."""
    settings = settings_in_force().settings
    return settings, Catalog.open(settings)
