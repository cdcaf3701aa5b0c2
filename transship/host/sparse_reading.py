"""Read files piece by piece without reading their holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 1024 * 1024
"""Fits a processor's L2 cache; larger buffers are slower."""

ZEROS: Final = bytes(PIECE_BYTES)


def read_pieces(descriptor: int, start: int, end: int) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a file from ``start`` to ``end``; holes are yielded from one buffer of zeros.

    A piece is valid until the next one is requested. The file offset of the descriptor changes.

    Raises:
        OSError: the file cannot be read, or ends before ``end``.
    """
    buffer = memoryview(bytearray(min(PIECE_BYTES, max(0, end - start))))
    position = start
    while position < end:
        data = next_data(descriptor, position, end)
        while position < data:
            hole = min(PIECE_BYTES, data - position)
            yield ZEROS[:hole] if hole < PIECE_BYTES else ZEROS
            position += hole
        data_end = min(end, os.lseek(descriptor, position, os.SEEK_HOLE)) if position < end else end
        while position < data_end:
            count = os.preadv(descriptor, [buffer[: min(PIECE_BYTES, data_end - position)]], position)
            if not count:
                raise OSError(errno.EIO, f"the file ends at byte {position} of {end}")
            yield buffer[:count]
            position += count


def next_data(descriptor: int, position: int, end: int) -> int:
    """Return the offset of the first data at or after ``position``; ``end`` if there are none before it.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return min(end, os.lseek(descriptor, position, os.SEEK_DATA))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end  # the rest is a hole
