"""Removes a deleted image's files from this host's staging at once; other hosts sweep their own."""

from __future__ import annotations

import structlog

from transship.catalog.engine import Catalog
from transship.catalog.journal import staged_of_image
from transship.catalog.uploads import drop_scrap
from transship.domain.errors import TransferFailed
from transship.staging.area import StagingArea

log = structlog.get_logger("transship.staging")


def remove_scrap(catalog: Catalog, area: StagingArea, image_id: str) -> None:
    """Remove an image's scrapped files that are not being written.

    Files that cannot be removed now are left for housekeeping.
    """
    with catalog.statement() as connection:
        rows = staged_of_image(connection, image_id, area.host)
    for row in rows:
        if row.state != "scrap" or area.being_written(row.name):
            continue
        try:
            area.remove(row.name)
            with catalog.statement() as connection:
                drop_scrap(connection, row.name, area.host)
        except TransferFailed as left:
            log.warning("staged file not removed yet", image_id=image_id, name=row.name, reason=str(left))
