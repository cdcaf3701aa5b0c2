"""The stores in force (configured, then edited in the Prefect UI): preparing them, and their problems.

A store is prepared once: by ``transship deploy``, or by the keeper when its block in the Prefect UI names another
directory. The catalogue records it, so a new directory can later be distinguished from one that is not mounted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import structlog
from pydantic import ValidationError

from config.settings import Settings, StoreSettings
from transship.catalog.engine import Catalog
from transship.catalog.journal import complete_urls
from transship.catalog.stores import LeftStore, left_stores, mirrored_stores, note_prepared, was_prepared
from transship.domain.errors import StoreUnavailable, TransferFailed
from transship.stores.base import StoreDriver
from transship.stores.documents import settings_from
from transship.stores.pool import DRIVERS, new_driver

log = structlog.get_logger("transship.stores")


def stores_in_force(settings: Settings, catalog: Catalog) -> Mapping[str, StoreSettings]:
    """Return the settings of all stores by id, in configured order, as the keeper last saw them in the Prefect UI."""
    with catalog.statement() as connection:
        edited = mirrored_stores(connection, catalog)
    return {
        store_id: _parsed(store_id, edited[store_id], configured) if store_id in edited else configured
        for store_id, configured in settings.all_stores.items()
    }


def _parsed(store_id: str, text: str, configured: StoreSettings) -> StoreSettings:
    try:
        return settings_from(text)
    except ValidationError as error:
        # Pydantic's text would repeat the input, which may hold keys.
        log.warning("edited store settings cannot be used", store=store_id, faults=error.error_count())
        return configured


def prepare_store(catalog: Catalog, store_id: str, settings: StoreSettings) -> bool:
    """Prepare a store before its first use; later, make sure that it is there.

    A directory that holds images from the journal, or has a mark of this store, is used as it is. There is nothing to
    prepare in a read-only store.

    Returns:
        Whether this was the first time.

    Raises:
        TransferFailed: it is missing, belongs to another store or cannot be prepared; nothing was recorded. Other parts
            of the store, e.g. directories, were prepared.
    """
    with DRIVERS.using(store_id, settings, catalog.id()) as driver:
        if driver.read_only:
            return False
        firsts, failures = [], []
        for part in driver.parts():
            try:
                firsts.append(_prepare(catalog, store_id, part))
            except TransferFailed as failed:
                failures.append(failed)
    if failures:
        raise failures[0]
    return any(firsts)


def _prepare(catalog: Catalog, store_id: str, driver: StoreDriver) -> bool:
    user, place = f"store {store_id}", driver.url_of("")
    with catalog.read() as connection:
        before = was_prepared(connection, user, place)
        known = complete_urls(connection, store_id)
    driver.prepare(known, before=before)
    if not before:
        with catalog.statement() as connection:
            note_prepared(connection, user, place)
    return not before


def store_problem(catalog: Catalog, store_id: str, settings: StoreSettings) -> str:
    """Return why a store cannot be used on this host now, and what to do about it; empty if it can.

    A store of several parts, e.g. directories, has a problem if one of them has.
    """
    problems: list[str] = []
    try:
        with DRIVERS.using(store_id, settings, catalog.id()) as driver:
            for part in driver.parts():
                try:
                    part.check()
                except TransferFailed as fault:
                    problems.append(_with_remedy(fault, part.remedy()))
    except TransferFailed as fault:
        return explained(fault, store_id, settings)
    return "; ".join(problems)


def stores_left(settings: Settings, catalog: Catalog) -> list[LeftStore]:
    """Return the stores that have copies of images but are not configured any more."""
    with catalog.statement() as connection:
        return left_stores(connection, list(settings.all_stores))


def explained(fault: TransferFailed, store_id: str, settings: StoreSettings) -> str:
    """Return a store's problem, with its path, and its remedy, for operators."""
    remedy = ""
    with suppress(StoreUnavailable):  # a missing library is the fault itself, and says what to do
        remedy = new_driver(store_id, settings, "").remedy()
    return _with_remedy(fault, remedy)


def _with_remedy(fault: TransferFailed, remedy: str) -> str:
    cause = fault.__cause__
    where = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
    unavailable = isinstance(fault, StoreUnavailable) and remedy
    return f"{fault.brief}{where}. {remedy}" if unavailable else f"{fault}{where}"
