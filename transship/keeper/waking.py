"""What the keeper waits for: its doorbell, notifications of PostgreSQL, or the time."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import structlog

from config.settings import Settings
from transship.catalog.bell import Listener, Ring
from transship.catalog.engine import Catalog
from transship.host.doorbell import DOORBELL_SOCKET, Doorbell

DEAF_S: Final = 2.0
"""Longest wait while nobody can wake the keeper."""

Wait = Callable[[float], frozenset[Ring]]
"""Waits so many seconds, or less; returns why the keeper was woken, nothing if it was not."""

log = structlog.get_logger("transship.keeper")


def waiter(settings: Settings, catalog: Catalog) -> Wait:
    """Return how to wait: for whoever writes to the catalogue, or, where nobody can be heard, for short."""
    try:
        settings.run_dir.mkdir(mode=0o700, exist_ok=True)
        doorbell: Doorbell | None = Doorbell(settings.run_dir / DOORBELL_SOCKET)
    except OSError as error:
        log.warning("no doorbell; requests wait for the next look", reason=str(error))
        doorbell = None
    listener = Listener(catalog.engine) if catalog.engine.dialect.name == "postgresql" else None

    def wait(timeout_s: float) -> frozenset[Ring]:
        listens = listener is not None and listener.open()
        ears = [ear for ear in (doorbell, listener if listens else None) if ear is not None]
        hears = listens if listener is not None else doorbell is not None
        readable, _, _ = select.select(ears, [], [], timeout_s if hears else min(timeout_s, DEAF_S))
        rung: frozenset[Ring] = frozenset()
        if doorbell is not None and doorbell in readable:
            rung |= {Ring(chr(each)) for each in doorbell.wait(0) if chr(each) in set(Ring)}
        if listener is not None and listener in readable:
            rung |= listener.heard()
        # Deaf, a look is the only way to know.
        return rung if hears else rung | frozenset(Ring)

    return wait
