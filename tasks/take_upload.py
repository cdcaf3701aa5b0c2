"""Take what a client has uploaded as the import's source."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.session import current
from tasks.staged_files import unstage
from transship.catalog.journal import adopt_staged, staged_of_image, staged_upload
from transship.domain.errors import UploadElsewhere, UploadIncomplete, UploadLost
from transship.domain.import_data import SealedFile


@task(name="take-upload", task_run_name="take upload", cache_policy=NO_CACHE, retries=0)
def take_upload() -> SealedFile:
    """Return the sealed file that holds the uploaded data; what an earlier attempt made of them is removed.

    Raises:
        UploadElsewhere: another host's staging holds it; it is kept.
        StagingUnavailable: the staging directory itself is not there; it is kept.
        UploadLost: it is not there any more, or is not what was uploaded.
        LockLost: the import must end.
    """
    session = current()
    session.board.enter("stage")
    image_id, host = session.lease.image_id, session.staging.host
    with session.catalog.read() as connection:
        try:
            upload = staged_upload(connection, image_id)
        except UploadIncomplete as missing:
            raise UploadLost(image_id, host) from missing
        rows = staged_of_image(connection, image_id, host)
    if upload.host != host:
        raise UploadElsewhere(image_id, upload.host, host)
    path = session.staging.sealed(upload.name)
    if not path.exists() or path.stat().st_size != upload.size:
        session.staging.require()
        raise UploadLost(image_id, host)
    adopt_staged(session.catalog, session.lease, upload.name, host)
    for row in rows:
        if row.name != upload.name and not session.staging.being_written(row.name):
            unstage(session, row.name)
    return SealedFile(upload.name, upload.size)
