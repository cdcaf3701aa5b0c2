"""Write files piece by piece, and leave holes for zeros."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

ZERO_BLOCK: Final = bytes(64 * 1024)


def write_sparsely(descriptor: int, piece: bytes, offset: int) -> None:
    """Write a piece where the file has no data yet. A hole at the end does not change the length of the file.

    Raises:
        OSError: the file cannot be written.
    """
    for start, end in data_ranges(piece, offset):
        write_all(descriptor, memoryview(piece)[start:end], offset + start)


def data_ranges(piece: bytes, offset: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the parts of a piece outside zero blocks; blocks are aligned to their size in the file.

    Args:
        offset: of the piece in the file.
    """
    data_from: int | None = None
    at = 0
    while at < len(piece):
        block_bytes = min(len(ZERO_BLOCK) - (offset + at) % len(ZERO_BLOCK), len(piece) - at)
        if piece.startswith(ZERO_BLOCK[:block_bytes], at):
            if data_from is not None:
                yield data_from, at
                data_from = None
        elif data_from is None:
            data_from = at
        at += block_bytes
    if data_from is not None:
        yield data_from, len(piece)


def write_all(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all bytes at an offset.

    Raises:
        OSError: the file cannot be written; some bytes may have been.
    """
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
