"""The format gate: what the staged data are, before any other program sees them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.session import current
from transship.domain.import_data import SealedFile
from transship.plugins.decompression import reason_to_keep
from transship.plugins.format_gate import archive_kind, inspect_file
from transship.plugins.format_guess import guess_disk_format
from transship.plugins.size_cap import refuse_beyond_cap


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the gate found.

    Attributes:
        detected: format of the data; ``gzip``, ``zip`` or ``lha`` for an archive that is still to be
            unpacked; empty for containers that are not inspected.
        virtual_size: bytes that a guest sees, None where the format does not tell.
    """

    detected: str
    virtual_size: int | None


@task(name="inspect", task_run_name="inspect {what}", cache_policy=NO_CACHE, retries=0)
def inspect(staged: SealedFile, what: str, *, unpacked_later: bool) -> Inspection:
    """Make sure that the data are what the image declares, and safe; one that declares nothing is what they are.

    Args:
        staged: file to inspect.
        what: which one it is, for people: ``source``, or the verb of the plugin that made it.
        unpacked_later: an archive passes here, because decompression comes next and is followed by another look.

    Raises:
        FormatMismatch, FormatUnsafe, FormatUnknown, ImageTooLarge: the data must not be used.
        StagingBroken: the file cannot be read.
    """
    session = current()
    session.board.enter("inspect", staged.size)
    path = session.staging.sealed(staged.name)
    image = session.image
    if unpacked_later and not reason_to_keep(image):
        kind = archive_kind(path)
        if kind is not None:
            return Inspection(kind, None)
    if image.disk_format is None:
        name = unquote(urlsplit(session.begun.uri).path)
        kept = image.container_format == "compressed"
        told = guess_disk_format(path, name, session.settings, unpacked=kept, stop=session.stop)
        session.change_image(disk_format=told)
        image = session.image
    found = inspect_file(
        path,
        image.disk_format or "",
        image.container_format or "",
        session.settings.formats,
        size_cap_bytes=session.settings.imports.image_size_cap_bytes,
        stop=session.stop,
        progress=session.board.advance,
    )
    refuse_beyond_cap(found, image.owner, session.settings.imports)
    session.remarks += [warning for warning in found.warnings if warning not in session.remarks]
    if found.virtual_size is not None:
        session.change_image(virtual_size=found.virtual_size)
    return Inspection(found.detected, found.virtual_size)
