"""Open a host's staging directory, which is where it shows whether this is the right catalogue, and all of it."""

from __future__ import annotations

from typing import Final

import structlog

from transship.catalog.engine import Catalog
from transship.catalog.leases import Lease
from transship.catalog.restores import count_opening
from transship.domain.errors import TransferFailed
from transship.staging.area import StagingArea

LISTED_IN_LOG: Final = 20
"""URLs in one line of the log."""

log = structlog.get_logger("transship.staging")


def open_staging(catalog: Catalog, area: StagingArea, lease: Lease | None = None) -> None:
    """Make a staging directory ready, before anything is removed or written on the catalogue's word.

    Of a catalogue that was restored from a backup nobody knows which hidden copies are still what it says of them.

    Args:
        lease: of the import that opens the directory, if one does.

    Raises:
        ConfigurationRefused: it cannot be written, or it serves another catalogue; nothing was touched.
        StagingBroken: its count cannot be read; nothing was touched.
    """
    area.prepare(catalog.id())
    opening = count_opening(catalog, area.count(), lease)
    if opening.forgotten:
        log.error(
            "the catalogue is older than this staging directory: was it restored?"
            " Copies that no client sees are not taken for its own any more",
            count=len(opening.forgotten),
            urls=list(opening.forgotten[:LISTED_IN_LOG]),
        )
    try:
        area.write_count(opening.count)
    except TransferFailed as fault:
        # Without it a restore may be noticed later; an import or a sweep goes on.
        log.warning("count of the staging directory not written", reason=str(fault))
