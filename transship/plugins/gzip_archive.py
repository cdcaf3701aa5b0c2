"""Unpack gzip files.

Source: RFC 1952: a file may have several members. Tapes and tar leave zero padding at the end.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from isal import isal_zlib

from transship.domain.errors import ArchiveRefused
from transship.domain.stop import StopToken
from transship.plugins.unpacking import Unpacking

INPUT_BYTES: Final = 128 * 1024
"""Small, because the rest of a chunk is copied once per member, and there may be thousands of tiny ones."""

GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW_BITS: Final = 31
_FIXED_HEADER_BYTES: Final = 10
_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 0x02, 0x04, 0x08, 0x10
_LONGEST_HEADER: Final = 1024 * 1024
"""The format itself does not limit name and comment."""


def unpack_gzip(work: Unpacking) -> None:
    """Write the content of every member; memory use is bounded by a piece and `INPUT_BYTES`.

    Raises:
        ArchiveRefused: it is damaged or truncated, or other data follow it.
    """
    source, stop = work.source, work.stop
    packed = source.read(INPUT_BYTES)
    while packed:
        packed = _with_whole_header(source, packed, stop)
        member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
        while True:
            stop.check()
            try:
                piece = member.decompress(packed, work.settings.chunk_bytes)
            except isal_zlib.IsalError as error:  # type: ignore[misc] # its stub types the class as an instance
                raise ArchiveRefused(
                    "gzip", "its data are damaged (checksum or structure)", "fetch it again"
                ) from error
            if piece:
                work.write(piece)
                work.progress(source.tell(), work.packed_bytes)
            if member.eof:
                break
            packed = member.unconsumed_tail
            if packed:
                continue
            packed = source.read(INPUT_BYTES)
            if not packed and not piece:
                raise ArchiveRefused("gzip", "it is truncated", "fetch it again")
        packed = _next_member(source, member.unused_data, stop)


def _with_whole_header(source: BinaryIO, packed: bytes, stop: StopToken) -> bytes:
    """Read on until a member's header is complete, and return the bytes read.

    ISA-L fails on a header whose optional fields arrive in two pieces.
    """
    while not _holds_header(packed):
        stop.check()
        more = source.read(INPUT_BYTES)
        if not more:
            raise ArchiveRefused("gzip", "it is truncated", "fetch it again")
        packed += more
        if len(packed) > _LONGEST_HEADER + INPUT_BYTES:
            raise ArchiveRefused("gzip", "its header is longer than 1 MiB", "pack the image without name and comment")
    return packed


def _holds_header(packed: bytes) -> bool:
    if len(packed) < _FIXED_HEADER_BYTES:
        return False
    flags, end = packed[3], _FIXED_HEADER_BYTES
    if flags & _EXTRA:
        end += 2 + int.from_bytes(packed[end : end + 2], "little")
    for _ in range(bool(flags & _NAME) + bool(flags & _COMMENT)):
        end = packed.find(0, end) + 1
        if not end:
            return False
    return end + (2 if flags & _HEADER_CRC else 0) <= len(packed)


def _next_member(source: BinaryIO, rest: bytes, stop: StopToken) -> bytes:
    """Return the beginning of the next member, empty at the end; skip zero padding."""
    rest = rest.lstrip(b"\0")
    while len(rest) < len(GZIP_MAGIC):
        stop.check()
        more = source.read(INPUT_BYTES)
        if not more:
            break
        rest = (rest + more).lstrip(b"\0")
    if rest and not rest.startswith(GZIP_MAGIC):
        raise ArchiveRefused("gzip", "other data follow its end", "remove them and import again")
    return rest
