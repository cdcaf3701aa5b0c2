"""What wakes the keeper: its doorbell, notifications from PostgreSQL, or a timeout."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import structlog

from config.settings import Settings
from transship.catalog.bell import Listener, Ring
from transship.catalog.engine import Catalog
from transship.host.doorbell import DOORBELL_SOCKET, Doorbell

POLL_S: Final = 2.0
"""Longest wait while the keeper cannot be woken."""
FULL: Final = 10
"""Minimum number of rings that a doorbell holds; with this many unread, others may have been lost."""

Wait = Callable[[float], frozenset[Ring]]
"""Waits for at most the given seconds; returns why the keeper was woken, empty after a timeout."""

log = structlog.get_logger("transship.keeper")


class Wakeups:
    """Waits for rings after writes to the catalogue; if rings cannot be received, waits are short."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._doorbell = _doorbell(settings)
        self._listener = Listener(catalog.engine) if catalog.engine.dialect.name == "postgresql" else None

    def wait(self, timeout_s: float) -> frozenset[Ring]:
        """Wait for at most the given seconds; return why the keeper was woken, empty after a timeout."""
        listener = self._listener if self._listener is not None and self._listener.open() else None
        hears = self._doorbell is not None if self._listener is None else listener is not None
        ears = [ear for ear in (self._doorbell, listener) if ear is not None]
        readable, _, _ = select.select(ears, [], [], timeout_s if hears else min(timeout_s, POLL_S))
        rung: frozenset[Ring] = frozenset()
        if self._doorbell is not None and self._doorbell in readable:
            letters = self._doorbell.wait(0).decode("ascii", "replace")
            rung |= {each for each in Ring if each in letters or len(letters) >= FULL}
        if listener is not None and listener in readable:
            rung |= listener.heard()
        # If rings cannot be received, everything must be checked.
        return rung if hears else frozenset(Ring)

    def close(self) -> None:
        """Stop receiving rings."""
        if self._doorbell is not None:
            self._doorbell.close()
        if self._listener is not None:
            self._listener.close()


def _doorbell(settings: Settings) -> Doorbell | None:
    try:
        settings.run_dir.mkdir(mode=0o700, exist_ok=True)
        return Doorbell(settings.run_dir / DOORBELL_SOCKET)
    except OSError as error:
        log.warning("no doorbell; requests wait for the next poll", reason=str(error))
        return None
