"""Remove copies without their image's lease, for housekeeping and for clients who delete a copy or an image.

From a read-only store nothing is removed: its copy is forgotten, and its data stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import uuid4

from transship.catalog.engine import Catalog
from transship.catalog.journal import LocationRow, drop_location, find_location
from transship.catalog.removal import Claim, claim_location, release_location
from transship.domain.errors import ObjectMissing
from transship.stores.base import StoreDriver

Using = Callable[[str], AbstractContextManager[StoreDriver]]
"""Opens a store's driver for the duration of a block."""


def remove_leftover(catalog: Catalog, row: LocationRow, using: Using, *, ttl_s: float) -> bool:
    """Remove a copy that is marked for removal; return whether there was one.

    The row is deleted only when nothing was found, because a delayed writer may have published the object after the
    previous removal.

    Args:
        ttl_s: seconds that the row must have waited, and after which another process may claim the removal.

    Raises:
        TransferFailed: the store cannot remove it now; the row stays.
    """
    claim = claim_location(catalog, row, uuid4().hex, older_than_s=ttl_s, ttl_s=ttl_s)
    if claim is None:
        return False
    found = True
    try:
        with using(row.store) as driver:
            found = _remove_if_found(driver, claim)
    finally:
        release_location(catalog, claim, gone=not found)
    return found


def _remove_if_found(driver: StoreDriver, claim: Claim) -> bool:
    row = claim.row
    if driver.read_only:
        return False
    found = driver.discard_temporaries(row.image_id, row.epoch + 1, row.put_token) > 0
    try:
        driver.size(row.url)
    except ObjectMissing:
        return found
    claim.check()
    driver.delete(row.url)
    return True


def remove_given_up(catalog: Catalog, claim: Claim, using: Using) -> None:
    """Remove a copy that clients no longer see, and forget it.

    Raises:
        StoreUnknown, TransferFailed: the store cannot remove it now; the row stays for housekeeping.
    """
    row, removed = claim.row, False
    try:
        with using(row.store) as driver:
            _remove(driver, row, claim.check)
        removed = True
    finally:
        release_location(catalog, claim, gone=removed)


def remove_of_deleted(catalog: Catalog, image_id: str, store: str, using: Using) -> None:
    """Remove a copy of a deleted image, and forget it.

    This is safe however late it runs: no data are written for a deleted image, and its id is never reused.

    Raises:
        StoreUnknown, TransferFailed: the store cannot remove it now; the row stays for housekeeping.
    """
    with catalog.statement() as connection:
        row = find_location(connection, image_id, store)
    if row is None:
        return  # housekeeping came first
    with using(store) as driver:
        _remove(driver, row, lambda: None)
    with catalog.statement() as connection:
        drop_location(connection, image_id, store)


def _remove(driver: StoreDriver, row: LocationRow, check: Callable[[], None]) -> None:
    """Remove an object and what a killed writer left of it: without its row, nobody would know."""
    if not driver.read_only:
        driver.discard_temporaries(row.image_id, row.epoch + 1, row.put_token)
        check()
        driver.delete(row.url)
