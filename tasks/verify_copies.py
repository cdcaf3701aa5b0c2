"""Read copies of images again, those first that were verified the longest ago, and replace damaged ones if allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from config.settings import Settings
from tasks.stores import using_store
from tasks.sweep import opened
from transship.catalog.engine import Catalog
from transship.catalog.verifications import (
    DamagedCopy,
    VisibleCopy,
    next_to_verify,
    note_verified,
    other_copies,
)
from transship.domain.clock import utc_now
from transship.domain.errors import AlreadyBeingCopied, ImportRunning, TransferFailed
from transship.placing.rates import MIB, SharedBucket
from transship.placing.removal import Using
from transship.placing.repair import replace_copy
from transship.placing.verification import find_damage

_GONE: Final = "it was removed or written anew while it was read"

log = structlog.get_logger("transship.verify")


@dataclass(slots=True)
class Verified:
    """What a verification found.

    Attributes:
        copies: how many were read; size: their bytes.
        damaged: those that are still in place.
        replaced: those that were given up; each is copied again by an import of its own.
        unread: why a store could not be read, by store id.
        complete: whether all copies were looked at in time.
    """

    copies: int = 0
    size: int = 0
    damaged: list[DamagedCopy] = field(default_factory=list)
    replaced: list[DamagedCopy] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    complete: bool = True


@task(name="verify-copies", task_run_name="verify copies", cache_policy=NO_CACHE, retries=0)
def verify_copies(
    stores: Collection[str], since: datetime, mib_per_s: float, limit_s: float, *, repair: bool
) -> Verified:
    """Read the copies in stores that were not verified since a time, and compare them with the digests of their images.

    Args:
        stores: ids.
        mib_per_s: most MiB that are read in a second.
        limit_s: seconds after which no further copy is begun.
        repair: replace a damaged copy if another one is good.
    """
    settings, catalog = opened()
    with closing(catalog):
        return _Verification(settings, catalog, since, mib_per_s, repair).run(stores, time.monotonic() + limit_s)


class _Verification:
    def __init__(self, settings: Settings, catalog: Catalog, since: datetime, mib_per_s: float, repair: bool) -> None:
        self._settings, self._catalog, self._since, self._repair = settings, catalog, since, repair
        self._using: Using = lambda store: using_store(store, settings, catalog)
        self._pace = _pace(SharedBucket(settings.run_dir / "rate-verify", mib_per_s * MIB))
        self._found = Verified()

    def run(self, stores: Collection[str], deadline: float) -> Verified:
        while left := [store for store in stores if store not in self._found.unread]:
            with self._catalog.read() as connection:
                copy = next_to_verify(connection, left, self._since)
            if copy is None:
                break
            if time.monotonic() > deadline:
                self._found.complete = False
                break
            self._verify(copy)
        return self._found

    def _verify(self, copy: VisibleCopy) -> None:
        try:
            damage = self._damage(copy)
        except TransferFailed as fault:
            log.warning("store not verified", store=copy.store, reason=str(fault))
            self._found.unread[copy.store] = str(fault)
            return
        if damage is None or damage is _GONE:
            return
        replaced = self._repair and self._replace(copy)
        found = self._found.replaced if replaced else self._found.damaged
        found.append(DamagedCopy(copy.image_id, copy.store, damage))

    def _damage(self, copy: VisibleCopy) -> str | None:
        """Read a copy and record what is wrong with it; return that, None if nothing is, `_GONE` if it has gone."""
        with self._using(copy.store) as driver:
            damage = find_damage(driver, copy.url, copy.size, copy.algorithm, copy.digest, self._pace)
        # The clock that set `since` may be ahead of this host's; the copy must not be due again.
        with self._catalog.write() as connection:
            noted = note_verified(connection, copy, damage, max(utc_now(), self._since))
        if not noted:
            return _GONE
        self._found.copies += 1
        self._found.size += copy.size
        if damage is not None:
            log.error("copy is damaged", image_id=copy.image_id, store=copy.store, damage=damage)
        return damage

    def _replace(self, copy: VisibleCopy) -> bool:
        with self._using(copy.store) as driver:
            if driver.read_only:
                return False
        if not self._has_good_copy(copy):
            log.warning("no good copy to repair from", image_id=copy.image_id, store=copy.store)
            return False
        try:
            task_id = replace_copy(self._catalog, copy, self._using, ttl_s=self._settings.lease.ttl_s, now=utc_now())
        except (AlreadyBeingCopied, ImportRunning) as error:
            log.warning("damaged copy removed, but not replaced", image_id=copy.image_id, reason=str(error))
            return False
        if task_id is not None:
            log.info("damaged copy is replaced", image_id=copy.image_id, store=copy.store, task_id=task_id)
        return task_id is not None

    def _has_good_copy(self, copy: VisibleCopy) -> bool:
        with self._catalog.read() as connection:
            others = other_copies(connection, copy)
        for other in others:
            if other.verified_at is not None and other.verified_at >= self._since:
                return True
            try:
                damage = self._damage(other)
            except TransferFailed as fault:
                log.warning("copy not read", image_id=other.image_id, store=other.store, reason=str(fault))
                continue
            if damage is None:
                return True
            if damage is _GONE:
                continue
            self._found.damaged.append(DamagedCopy(other.image_id, other.store, damage))
        return False


def _pace(bucket: SharedBucket) -> Callable[[int], None]:
    def wait(size_bytes: int) -> None:
        threading.Event().wait(max(0.0, bucket.book(size_bytes)))

    return wait
