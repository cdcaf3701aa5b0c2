"""Removing what an import leaves behind, in a way that never holds it up."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from transship.domain.errors import TransferFailed

log = structlog.get_logger("transship.flow")


def clean_up(effect: Callable[[], None]) -> None:
    """Remove what can be removed now; what cannot never holds the import up.

    The journal rows of what is left stay, and housekeeping removes what they name.

    Raises:
        LockLost: another worker took over.
    """
    try:
        effect()
    except TransferFailed as failed:
        log.warning("not everything could be removed now", reason=str(failed))
