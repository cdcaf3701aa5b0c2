"""The inspectors of oslo.utils, with fixes for real images that they misread.

Each class here replaces its base class; its docstring says why. Remove a class when a release of oslo.utils behaves
the same (compared with 10.2).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO, Final

from oslo_utils.imageutils import format_inspector

# Exceptions that the inspectors leak when a header is truncated or its structure is wrong.
PARSER_FAULTS: Final = (struct.error, AttributeError, KeyError, IndexError, ValueError, TypeError, OverflowError)

_EXTENDED_L2: Final = 1 << 4
_VHD_FIXED: Final = 2
_VHD_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQIII")
_ASCII_ONLY: Final = bytes(range(0x80)) + b"?" * 0x80
_FILE_SYSTEMS: Final = (b"NTFS    ", b"EXFAT   ", b"ReFS\0\0\0\0", b"-FVE-FS-")
"""Values of a boot sector's OEM field; the last is BitLocker's."""


class Inspectors(format_inspector.InspectWrapper):
    """Reads a stream through all inspectors; an inspector that fails does not hide the others' findings."""

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
        """End the stream, and return the inspectors of the matching formats, without ``raw``."""
        self._finish()
        return sorted((each for each in self._inspectors if each.NAME != "raw" and _matches(each)), key=str)


class QcowInspector(format_inspector.QcowInspector):
    """Reports extended L2 entries and their remedy instead of an unknown feature."""

    def check_unknown_features(self) -> None:
        """Refuse incompatible features that this service does not support."""
        features = int.from_bytes(self.region("header").data[self.I_FEATURES :][: self.I_FEATURES_LEN], "big")
        if self.qemu_header_info.get("version") == 3 and features & _EXTENDED_L2:
            raise format_inspector.SafetyViolation(
                "it has extended L2 entries (subclusters); write it anew with"
                " 'qemu-img convert -O qcow2 -o extended_l2=off' and import the result"
            )
        super().check_unknown_features()


class VhdInspector(format_inspector.VHDInspector):
    """Reads the current size, which a resize changes; the base class reads the original size."""

    @property
    def virtual_size(self) -> int:
        """Bytes that a guest sees."""
        return int.from_bytes(self.region("header").data[48:56], "big") if self.format_match else 0


class VmdkInspector(format_inspector.VMDKInspector):
    """Reads descriptors in any encoding that extends ASCII, in which only '/' itself is encoded as a slash."""

    def _parse_descriptor(self) -> None:
        descriptor = self.region("descriptor")
        descriptor.data = descriptor.data.translate(_ASCII_ONLY)
        super()._parse_descriptor()

    def check_descriptor(self) -> None:
        """Refuse extents in other paths, and a parent, because readers would open them."""
        super().check_descriptor()
        if any(line.strip().startswith("parentfilenamehint") for line in (self.desc_text or "").split("\n")):
            raise format_inspector.SafetyViolation("it is a snapshot that needs its parent; export the whole disk")


class PartitionTableInspector(format_inspector.GPTInspector):
    """Does not mistake a file system's boot sector for a partition table; both end in 55 AA."""

    def _check_for_fat(self) -> bool:
        return super()._check_for_fat() or names_file_system(bytes(self.region("mbr").data))


_REPLACED: Final[Mapping[str, type[format_inspector.FileInspector]]] = {
    "qcow2": QcowInspector,
    "vhd": VhdInspector,
    "vmdk": VmdkInspector,
    "gpt": PartitionTableInspector,
}


def fixed_vhd(tail: bytes) -> VhdInspector | None:
    """Return the inspector of a fixed VHD, which has only a footer; None if the data are not one.

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


def names_file_system(sector: bytes) -> bool:
    """Return whether a boot sector belongs to a file system: FAT, exFAT, NTFS, ReFS, BitLocker, HPFS.

    Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03 and "exFAT file system specification".
    """
    if (
        sector[3:11] in _FILE_SYSTEMS
        or sector[54:57] == b"FAT"
        or sector[82:87] == b"FAT32"
        or sector[54:58] == b"HPFS"
    ):
        return True
    # A FAT from before DOS 4 has no name, so its parameters must be plausible.
    jump, bytes_per_sector, sectors_per_cluster, reserved, fats, media = struct.unpack_from("<B10xHBHB4xB", sector)
    return (
        jump in {0xE9, 0xEB}
        and bytes_per_sector in {512, 1024, 2048, 4096}
        and sectors_per_cluster.bit_count() == 1
        and reserved > 0
        and fats in {1, 2}
        and (media == 0xF0 or media >= 0xF8)
    )


def _matches(inspector: format_inspector.FileInspector) -> bool:
    try:
        return inspector.format_match
    except PARSER_FAULTS:
        return False
