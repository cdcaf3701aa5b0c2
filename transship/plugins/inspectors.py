"""The inspectors of oslo.utils, with what they misread of real images put right.

Each class here replaces the one that it extends, and says why. Drop it when a release of oslo.utils reads
the same (compared with 10.2).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

from oslo_utils.imageutils import format_inspector

# What the inspectors let through when a header is cut short or lies about its own structure.
PARSER_FAULTS: Final = (struct.error, AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError)

_VHD_FIXED: Final = 2
_VHD_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQIII")


class Inspectors(format_inspector.InspectWrapper):
    """Reads a stream through all inspectors; one that fails does not hide what the others found."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(source)
        self._inspectors = {
            _REPLACED.get(name, inspector)() for name, inspector in format_inspector.ALL_FORMATS.items()
        }

    def decided(self) -> bool:
        """Return whether no inspector needs more of the stream."""
        try:
            return self.formats is not None
        except PARSER_FAULTS:
            return False

    def matching(self) -> list[format_inspector.FileInspector]:
        """End the stream, and return the inspectors of the formats that it matches; ``raw`` is none of them."""
        self._finish()
        return sorted((each for each in self._inspectors if each.NAME != "raw" and _matches(each)), key=str)


class VhdInspector(format_inspector.VHDInspector):
    """Takes the size from the field that a resize changes; the one before it keeps what the disk once had."""

    @property
    def virtual_size(self) -> int:
        """Bytes that a guest sees."""
        return int.from_bytes(self.region("header").data[48:56], "big") if self.format_match else 0


_REPLACED: Final[Mapping[str, type[format_inspector.FileInspector]]] = {
    "vhd": VhdInspector,
}


def fixed_vhd(tail: bytes) -> VhdInspector | None:
    """Return the inspector of a fixed VHD, whose only header is a footer; None if it is none.

    Args:
        tail: last 512 bytes of the file.

    Source: Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format".
    """
    if len(tail) != 512:
        return None
    cookie, *_others, kind, checksum = _VHD_FOOTER.unpack_from(tail)
    if cookie != b"conectix" or kind != _VHD_FIXED or checksum != ~(sum(tail) - sum(tail[64:68])) & 0xFFFFFFFF:
        return None
    inspector = VhdInspector()
    inspector.eat_chunk(tail)
    inspector.finish()
    return inspector


def _matches(inspector: format_inspector.FileInspector) -> bool:
    try:
        return inspector.format_match
    except PARSER_FAULTS:
        return False
