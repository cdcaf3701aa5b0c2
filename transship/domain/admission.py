"""Whether an image's state allows an import."""

from __future__ import annotations

from transship.domain.errors import AlreadyBeingCopied, FormatMissing, ImportRunning, WrongStatus
from transship.domain.image import Image
from transship.domain.import_request import ImportRequest


def admit(image: Image, request: ImportRequest) -> None:
    """Refuse an import that the image's current state does not allow.

    Raises:
        AlreadyBeingCopied: the running import already writes to a requested store.
        ImportRunning: another import of this image is running.
        WrongStatus: the method requires another status.
        FormatMissing: ``container_format`` or ``disk_format`` is unset.

    Source: Images API v2, "Interoperable image import".
    """
    if image.import_task is not None:
        being_written = image.importing_to or () if request.method.facts.copies else ()
        for store in request.stores or ():
            if store in being_written:
                raise AlreadyBeingCopied(store, image.import_task)
        raise ImportRunning(image.id, image.import_task)
    required = request.method.facts.starts_from
    if image.status is not required:
        raise WrongStatus(image.id, image.status, required, request.method)
    refuse_without_formats(image)


def refuse_without_formats(image: Image) -> None:
    """Refuse an image that cannot become active because it lacks a format.

    Raises:
        FormatMissing: ``container_format`` or ``disk_format`` is unset.
    """
    for field in ("container_format", "disk_format"):
        if not getattr(image, field):
            raise FormatMissing(image.id, field)
