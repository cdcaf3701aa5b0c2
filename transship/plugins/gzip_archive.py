"""Unpack gzip files.

Source: RFC 1952: members may follow each other; zero padding at the end is what tapes and tar leave.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from isal import isal_zlib

from transship.domain.errors import ArchiveRefused
from transship.domain.stop import StopToken
from transship.plugins.unpacking import Unpacking

INPUT_BYTES: Final = 128 * 1024
"""Small, so that a chunk of thousands of tiny members is not copied once per member for long."""

GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW_BITS: Final = 31


def unpack_gzip(work: Unpacking) -> None:
    """Write the content of every member; memory is bounded by a piece and `INPUT_BYTES`.

    Raises:
        ArchiveRefused: it is damaged or truncated, or other data follow it.
    """
    source, stop = work.source, work.stop
    packed = source.read(INPUT_BYTES)
    while packed:
        member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
        while True:
            stop.check()
            try:
                piece = member.decompress(packed, work.settings.chunk_bytes)
            except isal_zlib.IsalError as error:  # type: ignore[misc] # its stub types the class as an instance
                raise ArchiveRefused("gzip", "its data are damaged (checksum or structure); fetch it again") from error
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
                raise ArchiveRefused("gzip", "it is truncated; fetch it again")
        packed = _next_member(source, member.unused_data, stop)


def _next_member(source: BinaryIO, rest: bytes, stop: StopToken) -> bytes:
    """Return the beginning of the next member, or nothing at the end; zero padding is skipped."""
    rest = rest.lstrip(b"\0")
    while len(rest) < len(GZIP_MAGIC):
        stop.check()
        more = source.read(INPUT_BYTES)
        if not more:
            break
        rest = (rest + more).lstrip(b"\0")
    if rest and not rest.startswith(GZIP_MAGIC):
        raise ArchiveRefused("gzip", "other data follow its end; remove them and import again")
    return rest
