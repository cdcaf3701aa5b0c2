"""Store drivers, opened once per process and reused while the settings of their store stay the same."""

from __future__ import annotations

import atexit
import os
import pkgutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from config.settings import StoreSettings
from config.settings.stores import kind_of
from transship.domain.errors import StoreUnavailable
from transship.stores.base import StoreDriver


def new_driver(store_id: str, settings: StoreSettings, catalog_id: str) -> StoreDriver:
    """Return a driver for a store; nothing is opened or written yet.

    Args:
        store_id: id of the store, for messages.
        settings: the store's own settings.
        catalog_id: id of the catalogue that the store belongs to.

    Raises:
        StoreUnavailable: a library that its kind requires is not installed.
    """
    try:
        make = pkgutil.resolve_name(kind_of(settings).driver)
    except ImportError as error:
        reason = f"stores of type {settings.type} cannot be used here: {error}"
        raise StoreUnavailable(store_id, reason, "install what is missing on this host, and restart") from error
    driver: StoreDriver = make(store_id, settings, catalog_id)
    driver.verification = settings.verify
    return driver


@dataclass(slots=True, eq=False)
class _Held:
    """A driver, its number of users, and whether the last user closes it."""

    driver: StoreDriver
    settings: StoreSettings
    users: int = 0
    retired: bool = False
    opened: bool = False
    opening: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> None:
        """Open the driver unless it is open; after an error the next user tries again."""
        with self.opening:
            if not self.opened:
                self.driver.open()
                self.opened = True


class DriverPool:
    """The drivers of a process. It may be used from several threads; a forked process starts with none."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}
        self._inherited: list[_Held] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        # The connections belong to the parent process: closing them here could close them there.
        self._inherited += self._held.values()
        self._held, self._lock = {}, threading.Lock()

    @contextmanager
    def using(self, store_id: str, settings: StoreSettings, catalog_id: str) -> Iterator[StoreDriver]:
        """Provide the open driver of a store for the duration of a block.

        The driver stays open for the next user. If the settings have changed by then, the next user gets a new driver,
        and the old one is closed when its last user leaves.

        Raises:
            StoreUnavailable, StoreDenied: it cannot be opened.
        """
        held = self._take(store_id, settings, catalog_id)
        try:
            held.open()
            yield held.driver
        finally:
            with self._lock:
                held.users -= 1
                left = held.retired and held.users == 0
            if left:
                _close(held)

    def close(self) -> None:
        """Close all drivers; a driver in use is closed when its last user leaves."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
            idle = [each for each in held if _retire(each)]
        for each in idle:
            _close(each)

    def _take(self, store_id: str, settings: StoreSettings, catalog_id: str) -> _Held:
        key = (catalog_id, store_id)
        former = None
        with self._lock:
            held = self._held.get(key)
            if held is None or held.settings != settings:
                former, held = held, _Held(new_driver(store_id, settings, catalog_id), settings)
                self._held[key] = held
                former = former if former is not None and _retire(former) else None
            held.users += 1
        if former is not None:
            _close(former)
        return held


def _retire(held: _Held) -> bool:
    """Mark a driver to be closed by its last user; return whether it is unused now."""
    held.retired = True
    return held.users == 0


def _close(held: _Held) -> None:
    if held.opened:
        held.driver.close()


DRIVERS: Final = DriverPool()
"""The pool of this process."""

atexit.register(DRIVERS.close)
