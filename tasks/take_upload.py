"""Use data that a client has uploaded as the import's source."""

from __future__ import annotations

from tasks.session import current
from tasks.staged_files import keep_one
from tasks.steps import step
from transship.catalog.imports import Begun
from transship.catalog.journal import adopt_staged, staged_upload
from transship.domain.errors import UploadElsewhere, UploadIncomplete, UploadLost
from transship.domain.import_data import Done, SealedFile, Staged


@step("take-upload", "take upload")
def take_upload(begun: Begun) -> Done[Staged]:
    """Return the uploaded data; files that an earlier attempt derived from them are removed.

    Raises:
        UploadElsewhere: another host's staging holds them; they are kept.
        StagingUnavailable: the staging directory itself is missing; they are kept.
        UploadLost: they are missing, or differ from what was uploaded.
        LockLost: the import must end.
    """
    session = current()
    session.board.enter("stage")
    image_id, host = begun.image.id, session.staging.host
    with session.catalog.statement() as connection:
        try:
            upload = staged_upload(connection, image_id)
        except UploadIncomplete as missing:
            raise UploadLost(image_id, host) from missing
    if upload.host != host:
        raise UploadElsewhere(image_id, upload.host, host)
    path = session.staging.sealed(upload.name)
    if not path.exists() or path.stat().st_size != upload.size:
        session.staging.require()
        raise UploadLost(image_id, host)
    adopt_staged(session.catalog, session.lease, upload.name, host)
    kept = keep_one(session, lambda row: row.name == upload.name)
    digests = {} if kept is None else kept.digests or {}
    return Done(Staged(SealedFile(upload.name, upload.size, digests=digests), begun.image, uploaded=True))
