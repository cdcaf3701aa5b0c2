"""Checks that a disk image is complete: everything its tables point at is in the file, not in another one.

Readers treat what is beyond the end of the file as zeros, so a truncated image looks like a
disk with holes. Only the tables that the guest's disk needs are read here, not the data.

The cost is bounded by the file: each table is read once, and none larger than qemu-img accepts.
Like qemu-img, this accepts a qcow2 or vmdk whose last cluster is shorter than a cluster.

Sources: qemu docs/interop/qcow2.txt; VMware "Virtual Disk Format 5.0"; Microsoft "Virtual Hard Disk Image
Format Specification" 1.0 and [MS-VHDX]; VirtualBox VDICore.h; ECMA-119 8.4.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final
from uuid import UUID

from transship.domain.stop import StopToken

SECTOR_BYTES: Final = 512
MOST_TABLES: Final = 4 * 1024 * 1024
"""Most second-level tables of a disk; qemu-img's own limit for qcow2."""

_PIECE_BYTES: Final = 1024 * 1024
_ISO_PADDING_BYTES: Final = 150 * 2048
"""Padding blocks that genisoimage counts but some tools that copy discs omit."""


class _Flaw(Exception):
    """Why the image is not complete."""


@dataclass(frozen=True, slots=True)
class _File:
    """An image file, read at offsets taken from its own tables."""

    descriptor: int
    size_bytes: int
    stop: StopToken

    def read(self, what: str, at: int, length: int) -> bytes:
        """Return exactly ``length`` bytes."""
        self.must_hold(what, at, length)
        data = os.pread(self.descriptor, length, at)
        if len(data) != length:
            raise _Flaw(f"its {what} cannot be read whole")
        return data

    def numbers(self, what: str, at: int, count: int, code: str, order: str) -> Iterator[array[int]]:
        """Return a table's numbers in pieces.

        Args:
            what: the table, for display.
            at: offset in bytes.
            count: how many numbers it has.
            code: ``I`` for 32 bits, ``Q`` for 64.
            order: ``big`` or ``little``.
        """
        width = struct.calcsize("=" + code)
        self.must_hold(what, at, count * width)
        end = at + count * width
        for start in range(at, end, _PIECE_BYTES):
            self.stop.check()
            piece = array(code, self.read(what, start, min(_PIECE_BYTES, end - start)))
            if order != sys.byteorder:
                piece.byteswap()
            yield piece

    def must_hold(self, what: str, at: int, length: int) -> None:
        """Refuse a file that ends before ``length`` bytes at ``at``."""
        if at + length > self.size_bytes:
            raise _Flaw(
                f"its {what} ends at byte {at + length} and the file at byte {self.size_bytes},"
                " so it is cut short; fetch or export it again"
            )

    def must_hold_cluster(self, at: int, length: int) -> None:
        """Refuse a file that ends before a cluster or within one of its sectors; its last sectors may be missing."""
        if at >= self.size_bytes or (at + length > self.size_bytes and self.size_bytes % SECTOR_BYTES):
            self.must_hold("data", at, length)


def flaw_of(disk_format: str, descriptor: int, size_bytes: int, stop: StopToken) -> str:
    """Return why an image is not complete; empty if no flaw is found.

    Args:
        disk_format: the inspectors' name for it; formats without tables have no flaws.
        descriptor: of the file, open for reading.
        size_bytes: length of the file, which is at least that of the header.
        stop: checked once per table.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        _CHECKS.get(disk_format, _nothing)(_File(descriptor, size_bytes, stop))
    except _Flaw as flaw:
        return str(flaw)
    return ""


def _nothing(_file: _File) -> None:
    return


# --- qcow2 -------------------------------------------------------------------------------------

_QCOW2_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
_QCOW2_COPIED, _QCOW2_COMPRESSED = 1 << 63, 1 << 62


def _qcow2(file: _File) -> None:
    (_magic, version, _backing, _length, bits, size, _crypt, l1_entries, l1_at, refcounts_at, refcount_clusters,
     snapshots, snapshots_at) = struct.unpack(">4sIQIIQIIQQIIQ", file.read("header", 0, 72))  # fmt: skip
    if not 9 <= bits <= 21:
        raise _Flaw(f"a cluster of 2^{bits} bytes is not possible")
    cluster = 1 << bits
    tables = _divided(size, cluster * (cluster // 8))
    if l1_entries > MOST_TABLES or refcount_clusters * cluster > 8 * _PIECE_BYTES:
        raise _Flaw("its tables are larger than any reader takes")
    if l1_entries < tables:
        raise _Flaw(f"its L1 table has {l1_entries} entries and its virtual size needs {tables}")
    if snapshots:
        file.must_hold("snapshot table", snapshots_at, 1)
    count = refcount_clusters * cluster // 8
    for piece in file.numbers("refcount table", refcounts_at, count, "Q", "big"):
        file.must_hold("refcount blocks", max(piece) & ~(SECTOR_BYTES - 1), 1)
    seen: set[int] = set()
    for piece in file.numbers("L1 table", l1_at, tables, "Q", "big"):
        for entry in piece:
            at = entry & _QCOW2_OFFSET
            if at and at not in seen:
                seen.add(at)
                _qcow2_l2(file, at, bits, version)


def _qcow2_l2(file: _File, at: int, bits: int, version: int) -> None:
    zeros = 1 if version >= 3 else 0
    for piece in file.numbers("L2 table", at, (1 << bits) // 8, "Q", "big"):
        last = max(piece)
        if min(piece) & _QCOW2_COPIED and not last & (zeros | _QCOW2_COMPRESSED):
            # All are uncompressed clusters, as in most tables; the largest number is the furthest cluster.
            plain = last & _QCOW2_OFFSET
        elif last:
            compressed = (entry for entry in piece if entry & _QCOW2_COMPRESSED)
            file.must_hold("data", max((_qcow2_last_sector(entry, bits) for entry in compressed), default=0), 1)
            skipped = _QCOW2_COMPRESSED | zeros
            plain = max((entry & _QCOW2_OFFSET for entry in piece if not entry & skipped), default=0)
        else:
            continue
        file.must_hold_cluster(plain, 1 << bits)


def _qcow2_last_sector(entry: int, bits: int) -> int:
    """Return the offset of the last sector of a compressed cluster."""
    shift = 62 - (bits - 8)
    sectors = (entry >> shift) & ((1 << (bits - 8)) - 1)
    return (entry & ((1 << shift) - 1) & ~(SECTOR_BYTES - 1)) + sectors * SECTOR_BYTES


# --- vmdk --------------------------------------------------------------------------------------

_VMDK_HEADER: Final = struct.Struct("<4sIIQQQQIQQQ")
_VMDK_TABLES_AT_END: Final = 0xFFFF_FFFF_FFFF_FFFF
_VMDK_ZERO_GRAINS, _VMDK_COMPRESSED, _VMDK_MARKERS = 1 << 2, 1 << 16, 1 << 17


def _vmdk(file: _File) -> None:
    header = _VMDK_HEADER.unpack(file.read("header", 0, _VMDK_HEADER.size))
    if header[9] == _VMDK_TABLES_AT_END:
        footer = _VMDK_HEADER.unpack(file.read("footer", max(0, file.size_bytes - 1024), _VMDK_HEADER.size))
        if footer[0] != header[0] or footer[3:5] != header[3:5]:
            raise _Flaw("its footer is missing or states another size, so it is cut short; fetch or export it again")
        header = footer
    _magic, _version, flags, capacity, grain, _at, _length, per_table, _copy_at, directory_at, _overhead = header
    if not (0 < grain <= 0x200000 and 0 < per_table <= 512):
        raise _Flaw(f"a grain of {grain} sectors and tables of {per_table} entries are not possible")
    tables = _divided(capacity, grain * per_table)
    if tables > MOST_TABLES:
        raise _Flaw("its tables are larger than any reader takes")
    index = furthest = 0
    seen: set[int] = {0}
    directory = file.numbers("grain directory", directory_at * SECTOR_BYTES, tables, "I", "little")
    for table, table_at in enumerate(chain.from_iterable(directory)):
        if table_at not in seen:
            seen.add(table_at)
            for grains in file.numbers("grain table", table_at * SECTOR_BYTES, per_table, "I", "little"):
                largest = max(grains)
                if largest > furthest:
                    index, furthest = table * per_table + grains.index(largest), largest
    if furthest <= (1 if flags & _VMDK_ZERO_GRAINS else 0):
        return
    at = furthest * SECTOR_BYTES
    if flags & _VMDK_COMPRESSED and flags & _VMDK_MARKERS:
        _block, length = struct.unpack("<QI", file.read("data", at, 12))
        file.must_hold("data", at + 12, length)
    else:
        file.must_hold("data", at, min(grain, capacity - index * grain) * SECTOR_BYTES)


# --- vdi ---------------------------------------------------------------------------------------

_VDI_NORMAL: Final = (1, 2)


def _vdi(file: _File) -> None:
    header = file.read("header", 0, 512)
    version, _length, kind = struct.unpack_from("<III", header, 0x44)
    map_at, data_at = struct.unpack_from("<II", header, 0x154)
    size, block, extra, blocks = struct.unpack_from("<QIII", header, 0x170)
    if version != 0x00010001 or not block:
        raise _Flaw("its header is not that of a VDI of version 1.1")
    if kind not in _VDI_NORMAL or any(header[0x1B8:0x1C8]):
        raise _Flaw("it is a snapshot that needs its parent; export the whole disk")
    needed = _divided(size, block)
    if blocks < needed:
        raise _Flaw(f"its map has {blocks} blocks and its virtual size needs {needed}")
    # Add 1 to each block number, so 0 means "none"; the file uses the two largest numbers for that.
    index, furthest = _furthest(
        array("I", [number + 1 if number < 0xFFFF_FFFE else 0 for number in piece])
        for piece in file.numbers("block map", map_at, needed, "I", "little")
    )
    if furthest:
        file.must_hold("data", data_at + (furthest - 1) * (block + extra) + extra, min(block, size - index * block))


# --- vhd ---------------------------------------------------------------------------------------

_VHD_FIXED, _VHD_DYNAMIC, _VHD_DIFFERENCING = 2, 3, 4
_VHD_NO_BLOCK: Final = 0xFFFF_FFFF


def _vhd(file: _File) -> None:
    head = file.read("header", 0, 512)
    if not head.startswith(b"conectix"):
        (size,) = struct.unpack_from(">Q", file.read("footer", file.size_bytes - 512, 512), 48)
        file.must_hold("data and footer", 0, size + 512)
        return
    (header_at,), (size,), (kind,) = (
        struct.unpack_from(code, head, at) for code, at in ((">Q", 16), (">Q", 48), (">I", 60))
    )
    if kind == _VHD_DIFFERENCING:
        raise _Flaw("it is a differencing disk that needs its parent; merge them and import the result")
    header = file.read("dynamic disk header", header_at, 1024)
    table_at, _version, entries, block = struct.unpack_from(">QIII", header, 16)
    if kind != _VHD_DYNAMIC or not header.startswith(b"cxsparse") or block < SECTOR_BYTES:
        raise _Flaw("its headers are not those of a dynamic disk")
    needed = _divided(size, block)
    if entries < needed:
        raise _Flaw(f"its block table has {entries} entries and its virtual size needs {needed}")
    bitmap = _divided(block // SECTOR_BYTES, 8 * SECTOR_BYTES) * SECTOR_BYTES
    _index, furthest = _furthest(
        array("I", [number if number != _VHD_NO_BLOCK else 0 for number in piece])
        for piece in file.numbers("block table", table_at, needed, "I", "big")
    )
    if furthest:
        file.must_hold("data", furthest * SECTOR_BYTES, bitmap + block)


# --- vhdx --------------------------------------------------------------------------------------

_VHDX_BLOCKS: Final = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
_VHDX_METADATA: Final = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_VHDX_PARAMETERS: Final = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_VHDX_SIZE: Final = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_VHDX_SECTOR: Final = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_VHDX_HAS_PARENT: Final = 2
_VHDX_IN_FILE: Final = (6, 7)
_VHDX_OFFSET: Final = 0xFFFF_FFFF_FFF0_0000
_MIB: Final = 1024 * 1024


def _vhdx(file: _File) -> None:
    regions = _vhdx_entries(file, "region table", 192 * 1024, b"regi", 8, 16)
    blocks_at, _length = struct.unpack("<QI", _vhdx_entry(regions, _VHDX_BLOCKS)[:12])
    metadata_at, _length = struct.unpack("<QI", _vhdx_entry(regions, _VHDX_METADATA)[:12])
    items = _vhdx_entries(file, "metadata table", metadata_at, b"metadata", 10, 32)

    def item(name: UUID, code: str) -> tuple[int, ...]:
        at, _length = struct.unpack("<II", _vhdx_entry(items, name)[:8])
        return struct.unpack(code, file.read("metadata", metadata_at + at, struct.calcsize(code)))

    (block, flags), (size,), (sector,) = item(_VHDX_PARAMETERS, "<II"), item(_VHDX_SIZE, "<Q"), item(_VHDX_SECTOR, "<I")
    if flags & _VHDX_HAS_PARENT:
        raise _Flaw("it is a differencing disk that needs its parent; merge them and import the result")
    if not (_MIB <= block <= 256 * _MIB and block.bit_count() == 1 and sector in (512, 4096)):
        raise _Flaw(f"blocks of {block} bytes and sectors of {sector} are not possible")
    # After this many blocks the table has an entry for a bitmap, which only differencing disks use.
    per_bitmap = (1 << 23) * sector // block
    blocks = _divided(size, block)
    entries = blocks + max(0, blocks - 1) // per_bitmap
    index, furthest = _furthest(
        array("Q", [number & _VHDX_OFFSET if number & 7 in _VHDX_IN_FILE else 0 for number in piece])
        for piece in file.numbers("block table", blocks_at, entries, "Q", "little")
    )
    if furthest:
        block_index = index - index // (per_bitmap + 1)
        file.must_hold("data", furthest, min(block, size - block_index * block))


def _vhdx_entries(file: _File, what: str, at: int, magic: bytes, count_at: int, header: int) -> dict[bytes, bytes]:
    table = file.read(what, at, 64 * 1024)
    count = int.from_bytes(table[count_at : count_at + 2], "little")
    if not table.startswith(magic) or count > 2047:
        raise _Flaw(f"its {what} cannot be read")
    entries = (table[start : start + 32] for start in range(header, header + 32 * count, 32))
    return {entry[:16]: entry[16:] for entry in entries if len(entry) == 32}


def _vhdx_entry(entries: Mapping[bytes, bytes], name: UUID) -> bytes:
    if name.bytes_le not in entries:
        raise _Flaw("an entry of its tables is missing")
    return entries[name.bytes_le]


# --- iso ---------------------------------------------------------------------------------------


def _iso(file: _File) -> None:
    descriptor = file.read("volume descriptor", 32 * 1024, 2048)
    if descriptor.startswith(b"\1CD001"):
        blocks, block = struct.unpack_from("<I", descriptor, 80)[0], struct.unpack_from("<H", descriptor, 128)[0]
        if blocks * block > file.size_bytes + _ISO_PADDING_BYTES:
            file.must_hold("volume", 0, blocks * block)


_CHECKS: Final[Mapping[str, Callable[[_File], None]]] = {
    "qcow2": _qcow2,
    "vmdk": _vmdk,
    "vdi": _vdi,
    "vhd": _vhd,
    "vhdx": _vhdx,
    "iso": _iso,
}


def _divided(number: int, by: int) -> int:
    return -(-number // by)


def _furthest(pieces: Iterator[array[int]]) -> tuple[int, int]:
    """Return index and value of the largest number of a table; (0, 0) if there is none but 0."""
    best, done = (0, 0), 0
    for piece in pieces:
        largest = max(piece)
        if largest > best[1]:
            best = (done + piece.index(largest), largest)
        done += len(piece)
    return best
