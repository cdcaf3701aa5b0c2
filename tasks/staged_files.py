"""Files that this import creates in staging; each has a journal row before it exists."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from tasks.session import ImportSession
from transship.catalog.journal import StagedRow, drop_staged, open_staged, reserve_staged, seal_staged, staged_of_image
from transship.domain.clock import utc_now
from transship.domain.errors import StagingBusy
from transship.domain.import_data import SealedFile
from transship.domain.staged import SOURCE_ROLE

WAIT_STEP_S: Final = 1.0
"""Seconds between checks for room; each is one short write."""

log = structlog.get_logger("transship.staging")


def path_of(session: ImportSession, file: SealedFile) -> Path:
    """Return the path of a sealed file."""
    return Path(file.path) if file.path else session.staging.sealed(file.name)


@dataclass(frozen=True, slots=True)
class PluginWorkspace:
    """Where a plugin of this import may write.

    Attributes:
        role: label of the plugin; part of the names of its files.
    """

    session: ImportSession
    role: str

    def new_file(self, label: str) -> Path:
        """Return the path of a file to create, after adding its journal row."""
        name = new_name(self.session, f"{self.role}-{label}")
        open_file(self.session, name, self.role)
        return self.session.staging.part(name)

    def reserve(self, path: Path, size_bytes: int) -> None:
        """Make sure that the file may grow to ``size_bytes``.

        Raises:
            StagingFull: there is no room.
        """
        reserve(self.session, path.name.removesuffix(".part"), size_bytes)


def new_name(session: ImportSession, role: str) -> str:
    """Return the name of a new staged file of this attempt."""
    return f"{session.lease.image_id}.{session.lease.epoch}.{role}"


def open_file(session: ImportSession, name: str, role: str, source_key: str = "") -> None:
    """Add the journal row of a file that is about to be created.

    Raises:
        LockLost: another worker took over.
    """
    open_staged(session.catalog, session.lease, name, session.staging.host, role, source_key, utc_now())


def reserve(session: ImportSession, name: str, size_bytes: int, *, arriving: bool = False) -> None:
    """Reserve room for a file in addition to other imports' reservations; wait if these use it up.

    Args:
        arriving: it is the import's source, so the project's quota must allow it.

    Raises:
        ProjectOverQuota: the quota does not allow that.
        StagingFull: there was no room for ``staging.wait_s``.
        LockLost, ImportStopped: the import must end.
    """
    began, waits_until = utc_now(), time.monotonic() + session.settings.staging.wait_s
    said = ""
    while True:
        try:
            _reserve_now(session, name, size_bytes, arriving=arriving)
        except StagingBusy as busy:
            if time.monotonic() >= waits_until:
                raise
            if said != str(busy):
                said = str(busy)
                log.info("import waits for room", reason=said)
                session.board.wait_for("space in staging", began, f"it continues when other imports end: {said}")
        else:
            if said:
                session.board.go_on()
            return
        session.stop.wait(WAIT_STEP_S)


def _reserve_now(session: ImportSession, name: str, size_bytes: int, *, arriving: bool) -> None:
    quota = session.quota if arriving else None
    staging = session.staging
    reserve_staged(
        session.catalog,
        session.lease,
        name,
        staging.host,
        size_bytes,
        occupied=staging.occupied,
        available_bytes=staging.available_bytes(),
        claim=None if quota is None else quota.arriving(size_bytes),
    )


def seal(session: ImportSession, name: str, digests: Mapping[str, str] | None = None) -> SealedFile:
    """Complete a file; from here on it is only read.

    Args:
        digests: of its data, lower-case hex by algorithm; None if none were computed.

    Raises:
        LockLost: another worker took over.
        StagingBroken: the file is missing.
    """
    session.stop.check()
    size = session.staging.seal(name)
    seal_staged(session.catalog, session.lease, name, session.staging.host, size, digests)
    return SealedFile(name, size, digests=digests or {})


def unstage(session: ImportSession, name: str) -> None:
    """Remove a file of this import and its journal row.

    Raises:
        StagingBroken: the file cannot be removed; the row stays for housekeeping.
    """
    session.staging.remove(name)
    with session.catalog.statement() as connection:
        drop_staged(connection, name, session.staging.host)


def keep_one(session: ImportSession, useful: Callable[[StagedRow], bool]) -> StagedRow | None:
    """Return the usable file of an earlier attempt; the others are removed.

    A file that another process is writing is left to it.

    Raises:
        StagingBroken: a file cannot be removed; its row stays for housekeeping.
    """
    found = None
    for row in _rows(session):
        if useful(row):
            found = row
        elif not session.staging.being_written(row.name):
            unstage(session, row.name)
    return found


def discard_staged(session: ImportSession, *, keep_source: bool) -> None:
    """Remove all staged files of this import; with ``keep_source``, those that a rerun can use stay.

    Raises:
        StagingBroken: a file cannot be removed; its row stays for housekeeping.
    """
    for row in _rows(session):
        useful = row.role == SOURCE_ROLE and (row.state == "sealed" or row.validators is not None)
        if not (keep_source and useful):
            unstage(session, row.name)


def discard_scrap(session: ImportSession) -> None:
    """Remove files of this attempt that were marked as scrap; files that another attempt took over are kept.

    Raises:
        StagingBroken: a file cannot be removed; its row, if it still has one, stays for housekeeping.
    """
    rows = _rows(session)
    for row in rows:
        if row.state == "scrap" and row.epoch == session.lease.epoch:
            unstage(session, row.name)
    # If a worker sleeps before it creates a file, the row may have been removed meanwhile: no other process knows it.
    mine = f"{session.lease.image_id}.{session.lease.epoch}."
    named = {row.name for row in rows}
    for name in session.staging.names():
        if name.startswith(mine) and name not in named:
            session.staging.remove(name)


def _rows(session: ImportSession) -> list[StagedRow]:
    with session.catalog.statement() as connection:
        return staged_of_image(connection, session.lease.image_id, session.staging.host)
