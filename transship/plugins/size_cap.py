"""Limits the virtual size of a project's images, however small their files are."""

from __future__ import annotations

from config.settings import ImportSettings
from transship.domain.errors import ImageTooLarge
from transship.plugins.format_gate import Inspected


def refuse_beyond_cap(inspected: Inspected, project: str, imports: ImportSettings) -> None:
    """Refuse an image whose header states a larger virtual size than its project may have.

    The virtual size of raw data is their own size, which other limits check while they arrive.

    Args:
        project: owner of the image.

    Raises:
        ImageTooLarge: the virtual size exceeds the cap; the error names the cap.
    """
    if inspected.detected == "raw" or inspected.virtual_size is None:
        return
    cap_bytes, option = imports.virtual_size_cap(project)
    if inspected.virtual_size > cap_bytes:
        raise ImageTooLarge("virtual size", inspected.virtual_size, cap_bytes, option)
