"""Download the source to staging; reuse what an earlier attempt left if it still matches."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from prefect.runtime import task_run

from tasks.retrying import as_downloads
from tasks.session import ImportSession, current
from tasks.sources import source_refusal, web_source
from tasks.staged_files import keep_one, new_name, open_file, reserve, seal
from tasks.steps import step
from tasks.verify_source import verified
from transship.catalog.journal import StagedRow, adopt_staged, remember_validators
from transship.domain.clock import utc_now
from transship.domain.errors import SourceBusy, SourceDiffers, SourceRefused
from transship.domain.import_data import Announced, Done, JudgedSource, Outcome, SealedFile, Skipped, Staged
from transship.domain.staged import SOURCE_ROLE
from transship.sources.web import Downloaded, PartTarget, SourceRequest, Validators

log = structlog.get_logger("transship.stage")

NO_PROVEN_END = "the source announced no size, so that a cut could not be told from its end"
"""Remark on an image whose source ended by closing the connection."""

END_UNPROVEN = "end_unproven"
"""Key for this remark in a staged file's row."""


@step("stage", "stage {source.display}", as_downloads)
def stage(source: JudgedSource) -> Outcome[Staged]:
    """Download the source to staging, compare it with what the source announced, and seal it.

    A sealed file of an earlier attempt is used as it is; a partial file is resumed if the source says
    that it is still the same. Data that differ from the announcement are downloaded once more, from the start.

    Raises:
        TransferFailed: the source or staging failed; a partial file that can be resumed is kept.
        SourceDiffers: the data differed twice.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter("stage")
    source_key = hashlib.sha256(source.uri.encode()).hexdigest()
    earlier = _earlier(session, source_key, source.announced)
    if earlier is not None and not adopt_staged(session.catalog, session.lease, earlier.name, session.staging.host):
        earlier = None
    if earlier is not None and earlier.state == "sealed" and earlier.size is not None:
        proven = not (earlier.validators or {}).get(END_UNPROVEN)
        kept = _staged(source, SealedFile(earlier.name, earlier.size, digests=earlier.digests or {}), end_proven=proven)
        return Skipped(kept, "staged by an earlier attempt")
    if earlier is not None:
        name = earlier.name
    else:
        name = new_name(session, SOURCE_ROLE)
        open_file(session, name, SOURCE_ROLE, source_key)
    with session.staging.writing(name) as path:
        done = _fetched(session, source, name, path, None if earlier is None else _validators(earlier))
        try:
            digests = verified(session, source, done, path)
        except SourceDiffers as differs:
            log.warning("downloaded data differ, downloading once more", reason=str(differs))
            session.board.enter("stage")
            done = _fetched(session, source, name, path, None)
            digests = verified(session, source, done, path)
    if not done.end_proven:
        # Kept with the file: an attempt that finds it sealed must repeat the remark.
        remember_validators(session.catalog, session.lease, name, session.staging.host, {END_UNPROVEN: True})
    return Done(_staged(source, seal(session, name, digests), end_proven=done.end_proven))


def _staged(source: JudgedSource, file: SealedFile, *, end_proven: bool) -> Staged:
    remarks = source.remarks if end_proven else (*source.remarks, NO_PROVEN_END)
    path = unquote(urlsplit(source.uri).path)
    return Staged(file, source.image, source.arriving, remarks, source_path=path)


def _fetched(
    session: ImportSession, source: JudgedSource, name: str, path: Path, resume: Validators | None
) -> Downloaded:
    try:
        target = PartTarget(
            path,
            remember=lambda validators: _remember(session, name, validators),
            reserve=lambda size: reserve(session, name, size, arriving=True),
            progress=session.board.advance,
            resume=resume,
        )
        request = SourceRequest(source.uri, source.headers, source.pinned)
        return web_source(session, source.remote).fetch(request, target, session.stop)
    except SourceBusy as busy:
        if busy.retry_after_s is not None and _another_attempt_follows(session):
            wait_s = min(busy.retry_after_s, session.settings.download.retry_after_cap_s)
            remedy = f"the source asked to be left alone for {wait_s:.0f} s: {busy}"
            session.board.wait_for("its next attempt", utc_now(), remedy)
            session.stop.wait(wait_s)
        raise
    except SourceRefused as refused:
        raise source_refusal(source.remote, refused) from refused


def _another_attempt_follows(session: ImportSession) -> bool:
    attempts: int = task_run.run_count or 0
    return attempts <= session.settings.download.retries


def _earlier(session: ImportSession, source_key: str, announced: Announced | None) -> StagedRow | None:
    """Return the usable file of an earlier attempt at this source; the others are removed."""

    def useful(row: StagedRow) -> bool:
        same_source = row.role == SOURCE_ROLE and row.source_key == source_key
        return same_source and _usable(session, row, announced)

    return keep_one(session, useful)


def _usable(session: ImportSession, row: StagedRow, announced: Announced | None) -> bool:
    if row.state == "sealed":
        if announced and announced.algorithm and (row.digests or {}).get(announced.algorithm) != announced.value:
            return False
        path = session.staging.sealed(row.name)
        return path.exists() and path.stat().st_size == row.size
    if row.state != "part" or session.staging.being_written(row.name):
        return False
    return session.staging.part(row.name).exists() and _validators(row) is not None


def _remember(session: ImportSession, name: str, validators: Validators) -> None:
    # Without a strong validator nothing can be resumed; earlier validators are void in any case.
    kept = asdict(validators) if validators.strong else None
    remember_validators(session.catalog, session.lease, name, session.staging.host, kept)


def _validators(row: StagedRow) -> Validators | None:
    if row.validators is None or END_UNPROVEN in row.validators:
        return None
    stored: dict[str, Any] = dict(row.validators)
    return Validators(**stored)
