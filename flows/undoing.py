"""Removes what an import leaves behind without ever failing the import."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from transship.domain.errors import TransferFailed

log = structlog.get_logger("transship.flow")


def clean_up(effect: Callable[[], None]) -> None:
    """Remove what can be removed now; failures do not stop the import.

    Leftovers keep their journal rows, and housekeeping removes them later.

    Raises:
        LockLost: another worker took over.
    """
    try:
        effect()
    except TransferFailed as failed:
        log.warning("not everything could be removed now", reason=str(failed))
