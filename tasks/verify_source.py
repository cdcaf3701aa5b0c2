"""Compare downloaded data with the size and digest that the source announced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.digest import algorithms_of, file_digests
from tasks.session import ImportSession
from transship.domain.errors import SourceDiffers
from transship.domain.import_data import Announced, JudgedSource
from transship.host.staging_faults import staging_faults
from transship.plugins.foresight import HEAD_BYTES, may_change_data
from transship.sources.web import Downloaded


def verified(session: ImportSession, source: JudgedSource, done: Downloaded, path: Path) -> Mapping[str, str] | None:
    """Make sure that a downloaded file matches its source's announcement, and return the computed digests.

    If no plugin is going to change the data, the image's own digests are computed in the same pass.

    Args:
        source: where the data came from.
        done: the download; the digest in the response's head is used if ``source`` has none.
        path: the complete file.

    Returns:
        Lower-case hex by algorithm; None when the source announced no digest.

    Raises:
        SourceDiffers: size or digest differ.
        StagingBroken: the file cannot be read.
        LockLost, ImportStopped: the import must end.
    """
    expected = expected_of(source, done)
    if expected.size not in (None, done.size):
        raise SourceDiffers(expected.source, "size", str(expected.size), str(done.size))
    if not expected.algorithm:
        return None
    session.board.enter("verify-source", done.size)
    with staging_faults(path), path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    own = [] if may_change_data(session.settings, source.image, head) else algorithms_of(session.settings, source.image)
    algorithms = list(dict.fromkeys([expected.algorithm, *own]))
    digests = file_digests(path, algorithms, session.stop, session.board.advance)
    if digests[expected.algorithm] != expected.value:
        raise SourceDiffers(expected.source, expected.algorithm, expected.value, digests[expected.algorithm])
    return digests


def expected_of(source: JudgedSource, done: Downloaded) -> Announced:
    """Return the announced size and digest: from the source's record, else from the head of the response."""
    known = source.announced or Announced(source.display, None)
    if known.algorithm or not done.validators.digest:
        return known
    algorithm, _, value = done.validators.digest.partition(":")
    return Announced(known.source, known.size, algorithm, value)
