"""Copy a file inside the kernel: shared blocks where the filesystem can, else its data extents alone.

No byte passes through Python and no hole is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Final

from transship.host.write_back import start_write_back

PIECE_BYTES: Final = 8 * 1024 * 1024
"""Bytes between two calls of ``step``; half of what the store contract allows between two looks at the stop token."""

_FICLONE: Final = 0x40049409
"""``FICLONE`` of linux/fs.h on every architecture whose ``_IOW`` is the generic one."""

_NOT_POSSIBLE_HERE: Final = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}
)
"""Answers that mean "not between these two files", after which another way is tried."""


def reflink(source: int, target: int) -> bool:
    """Let an empty file share all blocks of another one; return False where the filesystem cannot.

    Raises:
        OSError: the filesystem could but failed, e.g. for want of room.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE_HERE:
            return False
        raise
    return True


def copy_extents(source: int, target: int, size: int, step: Callable[[int], None], pace: Callable[[int], None]) -> None:
    """Copy the data extents of ``source`` into the empty file ``target``; holes stay holes.

    Write-back starts with each piece, so that the fsync that follows is short.

    Args:
        source: descriptor open for reading.
        target: descriptor open for writing, of an empty file.
        size: bytes that the source holds.
        step: called with the bytes done before each piece; what it raises ends the copy.
        pace: called with the bytes of each piece, after ``step`` and before they are copied; the same.

    Raises:
        EOFError: the source ended before ``size``.
        OSError: as the filesystem says.
    """
    os.ftruncate(target, size)
    for start, end in data_extents(source, size):
        offset = start
        while offset < end:
            step(offset)
            pace(min(PIECE_BYTES, end - offset))
            copied = _copy_piece(source, target, offset, min(PIECE_BYTES, end - offset))
            if copied == 0:
                raise EOFError(f"the file ends at byte {offset} of {size}")
            start_write_back(target, offset, copied)
            offset += copied
    step(size)


def data_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of data, in order; one run where the filesystem knows no holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the end
            if error.errno == errno.EINVAL:
                yield offset, size
                return
            raise
        end = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        yield start, end
        offset = end


def _copy_piece(source: int, target: int, offset: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count, offset_src=offset, offset_dst=offset)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE_HERE:
            raise
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)
