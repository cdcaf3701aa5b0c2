"""Fill staging from the source; what an earlier attempt left is used if it still fits."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from prefect.states import Completed

from tasks.retrying import may_pass_next_time
from tasks.session import DataSource, ExpectedData, ImportSession, current
from tasks.sources import data_source, told_of_remote, web_source
from tasks.staged_files import new_name, open_file, reserve, seal, unstage
from tasks.verify_source import verified
from transship.catalog.journal import StagedRow, adopt_staged, remember_validators, staged_of_image
from transship.domain.clock import utc_now
from transship.domain.errors import SourceBusy, SourceDiffers, SourceRefused
from transship.domain.import_data import SealedFile
from transship.domain.staged import SOURCE_ROLE
from transship.sources.web import Downloaded, PartTarget, SourceRequest, Validators

log = structlog.get_logger("transship.stage")

NO_PROVEN_END = "the source announced no size, so that a cut could not be told from its end"
"""What is said of an image whose source just closed the connection."""

END_UNPROVEN = "end_unproven"
"""Key of a staged file's row that says so."""


@task(
    name="stage",
    task_run_name="stage {source}",
    cache_policy=NO_CACHE,
    retry_condition_fn=may_pass_next_time,
)
def stage(source: str) -> SealedFile:
    """Download the source into staging, compare it with what the source says of it, and seal it.

    A sealed file of an earlier attempt is taken as it is; a part is continued if the source says
    that it is still the same. Data that differ from what their source says are fetched once more, from the start.

    Args:
        source: for display.

    Raises:
        TransferFailed: the source or staging did not allow it; a part that can be continued is kept.
        SourceDiffers: the data differed twice.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    session.board.enter("stage")
    origin = data_source(session)
    source_key = hashlib.sha256(origin.uri.encode()).hexdigest()
    earlier = _earlier(session, source_key, origin)
    if earlier is not None and not adopt_staged(session.catalog, session.lease, earlier.name, session.staging.host):
        earlier = None
    if earlier is not None and earlier.state == "sealed" and earlier.size is not None:
        if (earlier.validators or {}).get(END_UNPROVEN):
            session.remarks.append(NO_PROVEN_END)
        kept = SealedFile(earlier.name, earlier.size)
        # The flow unwraps it; the name of the state tells people that nothing was fetched.
        return Completed(name="Skipped", message="staged by an earlier attempt", data=kept)  # type: ignore[return-value]  # see above
    if earlier is not None:
        name = earlier.name
    else:
        name = new_name(session, SOURCE_ROLE)
        open_file(session, name, SOURCE_ROLE, source_key)
    with session.staging.writing(name) as path:
        done = _fetched(session, origin, name, path, None if earlier is None else _validators(earlier))
        try:
            digests = verified(session, origin, done, path)
        except SourceDiffers as differs:
            log.warning("downloaded data differ, fetching once more", reason=str(differs))
            session.board.enter("stage")
            done = _fetched(session, origin, name, path, None)
            digests = verified(session, origin, done, path)
    if not done.end_proven:
        # Kept with the file: an attempt that finds it sealed has to say it too.
        remember_validators(session.catalog, session.lease, name, session.staging.host, {END_UNPROVEN: True})
        session.remarks.append(NO_PROVEN_END)
    return seal(session, name, digests)


def _fetched(
    session: ImportSession, origin: DataSource, name: str, path: Path, resume: Validators | None
) -> Downloaded:
    try:
        target = PartTarget(
            path,
            remember=lambda validators: _remember(session, name, validators),
            reserve=lambda size_bytes: reserve(session, name, size_bytes),
            progress=session.board.advance,
            resume=resume,
        )
        request = SourceRequest(origin.uri, origin.private, origin.pinned)
        return web_source(session, origin).fetch(request, target, session.stop)
    except SourceBusy as busy:
        if busy.retry_after_s is not None and _another_attempt_follows(session):
            wait_s = min(busy.retry_after_s, session.settings.download.retry_after_cap_s)
            remedy = f"the source asked to be left alone for {wait_s:.0f} s: {busy}"
            session.board.wait_for("its next attempt", utc_now(), remedy)
            session.stop.wait(wait_s)
        raise
    except SourceRefused as refused:
        raise told_of_remote(session, refused) from refused


def _another_attempt_follows(session: ImportSession) -> bool:
    attempts: int = task_run.run_count or 0
    return attempts <= session.settings.download.retries


def _earlier(session: ImportSession, source_key: str, origin: DataSource) -> StagedRow | None:
    """Return the file of an earlier attempt at this source that is still of use; the others are removed."""
    with session.catalog.read() as connection:
        rows = staged_of_image(connection, session.lease.image_id, session.staging.host)
    found = None
    for row in rows:
        if row.role == SOURCE_ROLE and row.source_key == source_key and _usable(session, row, origin.expected):
            found = row
        elif not session.staging.being_written(row.name):
            unstage(session, row.name)
    return found


def _usable(session: ImportSession, row: StagedRow, expected: ExpectedData | None) -> bool:
    if row.state == "sealed":
        if expected and expected.algorithm and (row.digests or {}).get(expected.algorithm) != expected.value:
            return False
        path = session.staging.sealed(row.name)
        return path.exists() and path.stat().st_size == row.size
    if row.state != "part" or session.staging.being_written(row.name):
        return False
    return session.staging.part(row.name).exists() and _validators(row) is not None


def _remember(session: ImportSession, name: str, validators: Validators) -> None:
    # Without a strong validator nothing can be continued; what an earlier answer said is void in any case.
    kept = asdict(validators) if validators.strong else None
    remember_validators(session.catalog, session.lease, name, session.staging.host, kept)


def _validators(row: StagedRow) -> Validators | None:
    if row.validators is None or END_UNPROVEN in row.validators:
        return None
    stored: dict[str, Any] = dict(row.validators)
    return Validators(**stored)
