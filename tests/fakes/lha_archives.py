"""LHA archives for tests: headers of levels 0 to 3, and simple, inefficient packers.

Source: the header and bit-stream descriptions of LHa for UNIX (``header.doc.md``) and lhasa.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

END = b"\0"
_COPY_LENGTH = 256
_OFFSET_BITS = {b"-lh4-": 4, b"-lh5-": 4, b"-lh6-": 5, b"-lh7-": 5, b"-lhx-": 5}


def _crc16_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


CRC16_TABLE = _crc16_table()


def crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value >> 8) ^ CRC16_TABLE[(value ^ byte) & 0xFF]
    return value


@dataclass(frozen=True)
class Member:
    """The fields of a header; ``size`` and ``crc`` default to those of ``content``."""

    packed: bytes
    content: bytes = b""
    method: bytes = b"-lh0-"
    name: bytes = b"disk.raw"
    size: int | None = None
    crc: int | None = None
    packed_size: int | None = None

    @property
    def facts(self) -> tuple[int, int, int]:
        size = len(self.content) if self.size is None else self.size
        crc = crc16(self.content) if self.crc is None else self.crc
        packed_size = len(self.packed) if self.packed_size is None else self.packed_size
        return packed_size, size, crc


def level_0(member: Member) -> bytes:
    packed_size, size, crc = member.facts
    body = struct.pack("<5sIIIBBB", member.method, packed_size, size, 0, 0x20, 0, len(member.name))
    body += member.name + struct.pack("<H", crc)
    return bytes([len(body), sum(body) & 0xFF]) + body + member.packed


def level_1(member: Member, extended: tuple[bytes, ...] = ()) -> bytes:
    packed_size, size, crc = member.facts
    headers, first = _chain(extended, 2)
    body = struct.pack("<5sIIIBBB", member.method, packed_size + len(headers), size, 0, 0x20, 1, len(member.name))
    body += member.name + struct.pack("<HcH", crc, b"U", first)
    return bytes([len(body), sum(body) & 0xFF]) + body + headers + member.packed


def level_2(member: Member, extended: tuple[bytes, ...] = ()) -> bytes:
    packed_size, size, crc = member.facts
    headers, first = _chain((*extended, b"\x01" + member.name), 2)
    length = 26 + len(headers)
    padding = b"\0" if length % 256 == 0 else b""
    head = struct.pack(
        "<H5sIIIBBHcH", length + len(padding), member.method, packed_size, size, 0, 0x20, 2, crc, b"U", first
    )
    return head + headers + padding + member.packed


def level_3(member: Member, extended: tuple[bytes, ...] = ()) -> bytes:
    packed_size, size, crc = member.facts
    headers, first = _chain((*extended, b"\x01" + member.name), 4)
    head = struct.pack(
        "<H5sIIIBBHcII", 4, member.method, packed_size, size, 0, 0x20, 3, crc, b"U", 32 + len(headers), first
    )
    return head + headers + member.packed


def _chain(extended: tuple[bytes, ...], size_bytes: int) -> tuple[bytes, int]:
    """Return extended headers, each with the size of the next one behind it, and the size of the first."""
    sizes = [len(each) + size_bytes for each in extended] + [0]
    chained = b"".join(
        each + following.to_bytes(size_bytes, "little") for each, following in zip(extended, sizes[1:], strict=True)
    )
    return chained, sizes[0]


class _Bits:
    def __init__(self) -> None:
        self._text: list[str] = []

    def add(self, value: int, bits: int) -> None:
        self._text.append(format(value, f"0{bits}b"))

    def packed(self) -> bytes:
        text = "".join(self._text)
        text += "0" * (-len(text) % 8)
        return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def packed_literals(content: bytes, method: bytes = b"-lh5-") -> bytes:
    """Pack by eight-bit codes that equal their bytes: no smaller, but a valid stream of the new methods."""
    bits = _Bits()
    for start in range(0, len(content), 0xFFFF):
        block = content[start : start + 0xFFFF]
        bits.add(len(block), 16)
        bits.add(0, 5)  # all code lengths have one symbol,
        bits.add(10, 5)  # which means length 8
        bits.add(256, 9)
        bits.add(0, _OFFSET_BITS[method])
        bits.add(0, _OFFSET_BITS[method])
        bits.add(int.from_bytes(block, "big"), 8 * len(block))
    return bits.packed()


def packed_in_flagged_groups(content: bytes) -> bytes:
    """Pack for -lz5-: before each eight bytes a byte of flags, every one of which says that a literal follows."""
    groups = range(0, len(content), 8)
    return b"".join(b"\xff" + content[start : start + 8] for start in groups)


def packed_in_flagged_bytes(content: bytes) -> bytes:
    """Pack for -lzs-: before each byte the bit that says literal."""
    bits = _Bits()
    for byte in content:
        bits.add(0x100 | byte, 9)
    return bits.packed()


def packed_zeros(copies: int, method: bytes = b"-lh5-") -> tuple[bytes, int]:
    """Pack a zero and then copies of 256 of them, which cost no bit each.

    Returns:
        The packed data, and the length of what they stand for.
    """
    bits = _Bits()
    _constant_block(bits, 1, 0, _OFFSET_BITS[method])
    left = copies
    while left:
        count = min(left, 0xFFFF)
        _constant_block(bits, count, 256 + _COPY_LENGTH - 3, _OFFSET_BITS[method])
        left -= count
    return bits.packed(), 1 + copies * _COPY_LENGTH


def _constant_block(bits: _Bits, count: int, code: int, offset_bits: int) -> None:
    bits.add(count, 16)
    bits.add(0, 5)
    bits.add(0, 5)
    bits.add(0, 9)
    bits.add(code, 9)
    bits.add(0, offset_bits)
    bits.add(0, offset_bits)
