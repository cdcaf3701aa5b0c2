"""Whether an image's state allows an import, and what follows when one fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from transship.domain.errors import FormatMissing, ImportRunning, WrongStatus
from transship.domain.image import Image, ImageStatus
from transship.domain.import_request import ImportMethod

STARTS_FROM: Final[Mapping[ImportMethod, ImageStatus]] = {
    ImportMethod.GLANCE_DIRECT: ImageStatus.UPLOADING,
    ImportMethod.WEB_DOWNLOAD: ImageStatus.QUEUED,
    ImportMethod.GLANCE_DOWNLOAD: ImageStatus.QUEUED,
    ImportMethod.COPY_IMAGE: ImageStatus.ACTIVE,
}
"""Status that an image must have for each method; also the one to which a failed import returns it."""


def admit(image: Image, method: ImportMethod) -> None:
    """Refuse an import that the image's present state does not allow.

    Raises:
        ImportRunning: another import of this image is under way.
        WrongStatus: the method starts from another status.
        FormatMissing: ``container_format`` or ``disk_format`` is unset.

    Source: Images API v2, "Interoperable image import".
    """
    if image.import_task is not None:
        raise ImportRunning(image.id, image.import_task)
    required = STARTS_FROM[method]
    if image.status is not required:
        raise WrongStatus(image.id, image.status, required, method)
    for field in ("container_format", "disk_format"):
        if not getattr(image, field):
            raise FormatMissing(image.id, field)
