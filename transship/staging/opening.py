"""Opens a host's staging directory, checking that it belongs to the catalogue and that the catalogue is current."""

from __future__ import annotations

from typing import Final

import structlog

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.journal import staged_names
from transship.catalog.leases import Lease
from transship.catalog.restores import count_opening
from transship.catalog.stores import note_prepared, was_prepared
from transship.domain.errors import TransferFailed
from transship.host.directories import MARK, read_mark
from transship.staging.area import StagingArea

LISTED_IN_LOG: Final = 20
"""Most URLs in one log line."""

log = structlog.get_logger("transship.staging")


def open_staging(catalog: Catalog, area: StagingArea, lease: Lease | None = None) -> None:
    """Prepare a staging directory before anything is removed or written according to the catalogue.

    The first import, upload or sweep of a host creates the directory; after that it must exist. If the catalogue was
    restored from a backup, its records of hidden copies may be outdated, so it forgets them.

    Args:
        lease: of the import that opens the directory, if any.

    Raises:
        ConfigurationRefused: it cannot be written, or it serves another catalogue; nothing was changed.
        StagingUnavailable: it is not where it was prepared; nothing was created or changed.
        StagingBroken: its count cannot be read; nothing was changed.
    """
    _prepare(catalog, area)
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
        # Without the count a restore may be detected later, but imports and sweeps can continue.
        log.warning("counter of the staging directory not written", reason=str(fault))


def staging_problem(settings: Settings, catalog: Catalog) -> str:
    """Return why imports on this host cannot use the staging directory, and what to do; empty if they can."""
    area = StagingArea.of(settings)
    directory = area.directory
    try:
        found = read_mark(directory)
    except OSError as error:
        return f"{directory} cannot be used: {error.strerror}"
    if found is None and _prepared_before(catalog, area):
        remedy = f"mount it; to start with an empty staging there, put an empty file {MARK} into it"
        return f"{directory} is not mounted, or its mark is gone, so imports fail: {remedy}"
    if found and found != catalog.id():
        return f"{directory} serves another catalogue ({found}); set staging.dir to a directory of its own"
    return ""


def _prepare(catalog: Catalog, area: StagingArea) -> None:
    before = _prepared_before(catalog, area)
    area.prepare(catalog.id(), before=before)
    if not before:
        with catalog.statement() as connection:
            note_prepared(connection, *_user_and_place(area))


def _prepared_before(catalog: Catalog, area: StagingArea) -> bool:
    with catalog.statement() as connection:
        if was_prepared(connection, *_user_and_place(area)):
            return True
    with catalog.statement() as connection:
        # Earlier releases recorded nothing, but marked the directory before they wrote a row.
        return bool(staged_names(connection, area.host))


def _user_and_place(area: StagingArea) -> tuple[str, str]:
    return f"staging of {area.host}", str(area.directory)
