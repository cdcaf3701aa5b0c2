"""Small archives that hold gigabytes of zeros, created within a second."""

from __future__ import annotations

import struct
import zlib

from tests.fakes.lha_archives import END, Member, level_2, packed_zeros

MIB = 1 << 20
GIB = 1 << 30
_STEP_BYTES = 64 * MIB
_IN_EXTRA = 0xFFFFFFFF


def gzip_of_zeros(size_bytes: int) -> bytes:
    """Return a gzip file of many members; ``size_bytes`` is a multiple of 64 MiB."""
    packer = zlib.compressobj(9, wbits=31)
    member = packer.compress(bytes(_STEP_BYTES)) + packer.flush()
    return member * (size_bytes // _STEP_BYTES)


def zip_of_zeros(size_bytes: int, stated_bytes: int | None = None) -> bytes:
    """Return a zip file of one deflated member; ``stated_bytes`` is what its directory says of the size.

    Its checksum is not that of the content: whoever reads as far as that has read all of it.
    """
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # A full flush ends on a byte and forgets what was before, so the same bytes may follow again and again.
    step = packer.compress(bytes(_STEP_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = step * (size_bytes // _STEP_BYTES) + zlib.compressobj(9, wbits=-zlib.MAX_WBITS).flush()
    stated = size_bytes if stated_bytes is None else stated_bytes
    short, extra = stated, b""
    if stated >= _IN_EXTRA:
        short, extra = _IN_EXTRA, struct.pack("<2HQ", 1, 8, stated)
    name = b"disk.raw"
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 8, 0, 0, 0, len(body), short, len(name), 0) + name
    sizes = (0, len(body), short)
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 8, 0, 0, *sizes, len(name), len(extra), 0, 0, 0, 0, 0)
    directory = entry + name + extra
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(head) + len(body), 0)
    return head + body + directory + end


def lha_of_zeros(stated_bytes: int | None = None) -> bytes:
    """Return an LHA file of one -lh5- member of nearly 4 GiB, the most that its header can state."""
    packed, size_bytes = packed_zeros((4 * GIB >> 8) - 1, b"-lh5-")
    stated = size_bytes if stated_bytes is None else stated_bytes
    return level_2(Member(packed, b"", b"-lh5-", size=stated, crc=1)) + END
