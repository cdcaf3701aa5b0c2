"""The largest disk that a project's images may claim to be, whatever few bytes claim it."""

from __future__ import annotations

from config.settings import ImportSettings
from transship.domain.errors import ImageTooLarge
from transship.plugins.format_gate import Inspected


def refuse_beyond_cap(inspected: Inspected, project: str, imports: ImportSettings) -> None:
    """Refuse an image whose header states a larger virtual size than its project may have.

    The virtual size of raw data is their own size, which other limits bound while they arrive.

    Args:
        project: owner of the image.

    Raises:
        ImageTooLarge: it does; the error names the cap.
    """
    if inspected.detected == "raw" or inspected.virtual_size is None:
        return
    cap_bytes, option = imports.virtual_size_cap(project)
    if inspected.virtual_size > cap_bytes:
        raise ImageTooLarge("virtual size", inspected.virtual_size, cap_bytes, option)
