"""Read a file without reading its holes.

A file that ends before the bytes that were asked for is never taken for one whose rest is a hole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 1024 * 1024
"""Fits a processor's L2 cache; larger buffers are slower."""

ZEROS: Final = bytes(PIECE_BYTES)


class FileEnded(OSError):
    """The file ends before the bytes that were asked for.

    Attributes:
        reason: where it ends.
    """

    def __init__(self, descriptor: int, end: int) -> None:
        self.reason = f"the file ends at byte {os.fstat(descriptor).st_size} of {end}"
        super().__init__(errno.EIO, self.reason)


def read_pieces(descriptor: int, start: int, end: int) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a file from ``start`` to ``end``; holes are yielded from one buffer of zeros.

    A piece is valid until the next one is requested. The file offset of the descriptor changes.

    Raises:
        FileEnded: the file ends before ``end``.
        OSError: the file cannot be read.
    """
    buffer = memoryview(bytearray(min(PIECE_BYTES, max(0, end - start))))
    position = start
    while position < end:
        data = next_data(descriptor, position, end)
        while position < data:
            hole = min(PIECE_BYTES, data - position)
            yield ZEROS[:hole] if hole < PIECE_BYTES else ZEROS
            position += hole
        data_end = _next(descriptor, position, end, os.SEEK_HOLE) if position < end else end
        while position < data_end:
            count = os.preadv(descriptor, [buffer[: min(PIECE_BYTES, data_end - position)]], position)
            if not count:
                raise FileEnded(descriptor, end)
            yield buffer[:count]
            position += count


def data_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of data, in order.

    Args:
        size: bytes of the file.

    Raises:
        FileEnded: the file has become shorter.
        OSError: the file cannot be read.
    """
    end = 0
    while (start := next_data(descriptor, end, size)) < size:
        end = _next(descriptor, start, size, os.SEEK_HOLE)
        yield start, end


def next_data(descriptor: int, position: int, end: int) -> int:
    """Return the offset of the first data at or after ``position``; ``end`` if there are none before it.

    Raises:
        FileEnded: there are none, and the file ends before ``end``.
        OSError: the file cannot be read.
    """
    return _next(descriptor, position, end, os.SEEK_DATA)


def _next(descriptor: int, position: int, end: int, what: int) -> int:
    try:
        return min(end, os.lseek(descriptor, position, what))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        if os.fstat(descriptor).st_size < end:
            raise FileEnded(descriptor, end) from error
        return end  # the rest is a hole
