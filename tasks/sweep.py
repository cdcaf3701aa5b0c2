"""Remove what the journal names and nobody needs. What no row names is reported, never touched."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from config.settings import Settings
from tasks.stores import store_driver
from transship.catalog.engine import Catalog
from transship.catalog.journal import (
    LocationRow,
    deleting_locations,
    drop_location,
    drop_staged,
    find_location,
    scrap_of_host,
    staged_names,
)
from transship.domain.errors import TransferFailed
from transship.staging.area import StagingArea

log = structlog.get_logger("transship.sweep")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        removed: names of what was removed.
        kept: name and reason of what could not be removed now.
        unknown: names in staging that no journal row names.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@task(name="sweep-staging", task_run_name="sweep staging of {host}", cache_policy=NO_CACHE, retries=0)
def sweep_staging(host: str) -> Swept:
    """Remove scrap from this host's staging directory, and report what no row names."""
    settings, catalog = opened()
    area = StagingArea(settings.staging_dir, host, settings.staging.free_floor_bytes)
    with closing(catalog):
        area.prepare(catalog.id())
        return _sweep_staging(catalog, area)


def _sweep_staging(catalog: Catalog, area: StagingArea) -> Swept:
    removed, kept = [], []
    with catalog.read() as connection:
        rows = scrap_of_host(connection, area.host)
    for row in rows:
        if area.being_written(row.name):
            kept.append(f"{row.name}: still being written")
            continue
        try:
            area.remove(row.name)
        except TransferFailed as failed:
            kept.append(f"{row.name}: {failed}")
            continue
        with catalog.write() as connection:
            drop_staged(connection, row.name, area.host)
        removed.append(row.name)
    # Files first, rows second: a file that is made in between has its row by then.
    found = area.names()
    with catalog.read() as connection:
        known = staged_names(connection, area.host)
    unknown = tuple(name for name in found if name not in known)
    if unknown:
        log.warning("staging holds files that are not ours; they are left alone", names=list(unknown))
    return Swept(tuple(removed), tuple(kept), unknown)


@task(name="sweep-stores", task_run_name="sweep stores", cache_policy=NO_CACHE, retries=0)
def sweep_stores() -> Swept:
    """Remove copies that the journal says are to go and whose writers are gone."""
    settings, catalog = opened()
    with closing(catalog):
        return _sweep_stores(settings, catalog)


def _sweep_stores(settings: Settings, catalog: Catalog) -> Swept:
    removed, kept = [], []
    with catalog.read() as connection:
        rows = deleting_locations(connection, older_than_s=settings.lease.ttl_s)
    for row in rows:
        try:
            if _remove(settings, catalog, row):
                removed.append(row.url)
        except TransferFailed as failed:
            kept.append(f"{row.url}: {failed}")
    return Swept(tuple(removed), tuple(kept))


def _remove(settings: Settings, catalog: Catalog, row: LocationRow) -> bool:
    """Remove a copy; return whether it was still to go: a new import may have cleared it in the meantime."""
    driver = store_driver(row.store, settings)
    with catalog.read() as connection:
        if find_location(connection, row.image_id, row.store) != row:
            return False
    driver.discard_temporaries(row.image_id, row.epoch + 1)
    driver.delete(row.url)
    with catalog.write() as connection:
        drop_location(connection, row.image_id, row.store)
    return True


def opened() -> tuple[Settings, Catalog]:
    """Return the settings in force and the catalogue, open."""
    from config.loading import load_settings  # noqa: PLC0415  # read anew by each run, not at import

    settings = load_settings().settings
    return settings, Catalog.open(settings)
