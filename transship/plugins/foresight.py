"""Predicts whether the configured plugins will replace the data of an image.

Digests computed while data arrive are useful only if the data do not change afterwards. A wrong
guess only costs time: digests belong to one staged file, and a new file has none.
"""

from __future__ import annotations

from config.settings import Settings
from transship.domain.image import Image
from transship.plugins.decompression import reason_to_keep
from transship.plugins.format_gate import ARCHIVE_HEADS, WITHOUT_INSPECTOR

HEAD_BYTES = 16
"""Bytes needed to recognise an archive."""


def may_change_data(settings: Settings, image: Image, head: bytes) -> bool:
    """Return whether a configured plugin may replace the data.

    Args:
        image: its record when the data arrive.
        head: first bytes of the data: `HEAD_BYTES`, or all if there are fewer.
    """
    return any(_may_change(name, settings, image, head) for name in settings.imports.plugins)


def _may_change(plugin: str, settings: Settings, image: Image, head: bytes) -> bool:
    match plugin:
        case "inject_image_metadata" | "no_op":
            return False
        case "image_decompression":
            packed = any(magic.match(head) for _, magic in ARCHIVE_HEADS)
            return packed and not reason_to_keep(image)
        case "image_conversion":
            stays = WITHOUT_INSPECTOR | {"iso", settings.conversion.output_format}
            return image.container_format == "bare" and image.disk_format not in stays
        case _:
            # A third-party plugin may do anything.
            return True
