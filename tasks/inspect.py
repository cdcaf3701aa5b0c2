"""The format gate: checks staged data before any other program sees them."""

from __future__ import annotations

from dataclasses import replace

from tasks.session import current
from tasks.steps import step
from transship.domain.import_data import Done, Inspected, Staged
from transship.plugins.decompression import reason_to_keep
from transship.plugins.format_gate import archive_kind, inspect_file
from transship.plugins.format_guess import guess_disk_format
from transship.plugins.size_cap import refuse_beyond_cap


@step("inspect", "inspect {what}")
def inspect(staged: Staged, what: str, *, unpacked_later: bool) -> Done[Inspected]:
    """Make sure that the data are safe and match the image's disk format; set the format if it is not declared.

    Args:
        staged: data to inspect.
        what: label of the data, for display: ``source``, or the verb of the plugin that made them.
        unpacked_later: accept an archive, because it will be decompressed and inspected again.

    Raises:
        FormatMismatch, FormatUnsafe, FormatUnknown, ImageTooLarge: the data must not be used.
        StagingBroken: the file cannot be read.
    """
    session = current()
    session.board.enter("inspect", staged.file.size)
    path = session.staging.sealed(staged.file.name)
    image = staged.image
    if unpacked_later and not reason_to_keep(image):
        kind = archive_kind(path)
        if kind is not None:
            return Done(Inspected(staged, kind, None))
    if image.disk_format is None:
        kept = image.container_format == "compressed"
        told = guess_disk_format(path, staged.source_path, session.settings, unpacked=kept, stop=session.stop)
        image = replace(image, disk_format=told)
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
    if found.virtual_size is not None:
        image = replace(image, virtual_size=found.virtual_size)
    new = tuple(warning for warning in found.warnings if warning not in staged.remarks)
    looked_into = replace(staged, image=image, remarks=(*staged.remarks, *new))
    return Done(Inspected(looked_into, found.detected, found.virtual_size))
