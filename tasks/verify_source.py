"""Compare what was downloaded with what its source says of it."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.digest import compare, file_digests
from tasks.session import current
from tasks.staged_files import Staged
from transship.domain.errors import SourceDiffers


@task(name="verify-source", task_run_name="verify source", cache_policy=NO_CACHE, retries=0)
def verify_source(staged: Staged) -> None:
    """Make sure that the staged file is what the source says.

    The digest is compared here only if plugins may change the file. Otherwise `tasks.digest` compares
    it beside the copies to the stores, so that the bytes are hashed once; either way before the image
    becomes active.

    Raises:
        SourceDiffers: size or digest differ.
        StagingBroken: the file cannot be read.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    expected = session.expected
    if expected is None:
        return
    if staged.size != expected.size:
        raise SourceDiffers(expected.source, "size", str(expected.size), str(staged.size))
    if not session.settings.imports.plugins:
        return
    session.board.enter("verify-source", staged.size)
    if expected.algorithm:
        path = session.staging.sealed(staged.name)
        digests = file_digests(path, [expected.algorithm], session.stop, session.board.advance)
        compare(expected, digests[expected.algorithm])
    session.expected = None
