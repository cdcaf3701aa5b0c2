"""Copy a file inside the kernel: by sharing blocks if the filesystem can, else by copying its data extents.

No bytes pass through Python, and holes are not written.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from transship.host.sparse_reading import FileEnded, data_extents
from transship.host.write_back import start_write_back

PIECE_BYTES: Final = 8 * 1024 * 1024
"""Bytes between calls of ``step``; half of what the store contract allows between checks of the stop token."""

_FICLONE: Final = 0x40049409
"""``FICLONE`` of linux/fs.h on every architecture whose ``_IOW`` is the generic one."""

_NOT_POSSIBLE_HERE: Final = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY}
)
"""Errors that mean "not between these two files"; another method is tried then."""


def reflink(source: int, target: int, size: int) -> bool:
    """Make an empty file share all blocks of another one; return False if the filesystem cannot.

    Args:
        size: bytes that the other one holds.

    Raises:
        FileEnded: it holds fewer.
        OSError: the filesystem supports it but failed, e.g. for lack of room.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE_HERE:
            return False
        raise
    if os.fstat(target).st_size < size:
        raise FileEnded(target, size)
    return True


def copy_extents(source: int, target: int, size: int, step: Callable[[int], None], pace: Callable[[int], None]) -> None:
    """Copy the data extents of ``source`` into the empty file ``target``; holes stay holes.

    Write-back starts with each piece, which keeps the final fsync short.

    Args:
        source: descriptor open for reading.
        target: descriptor of an empty file, open for writing.
        size: bytes that the source holds.
        step: called before each piece with the bytes done; an exception ends the copy.
        pace: called after ``step`` and before each piece with its size; an exception ends the copy.

    Raises:
        FileEnded: the source ended before ``size``.
        OSError: from the filesystem.
    """
    os.ftruncate(target, size)
    for start, end in data_extents(source, size):
        offset = start
        while offset < end:
            step(offset)
            pace(min(PIECE_BYTES, end - offset))
            copied = _copy_piece(source, target, offset, min(PIECE_BYTES, end - offset))
            if copied == 0:
                raise FileEnded(source, size)
            start_write_back(target, offset, copied)
            offset += copied
    step(size)


def _copy_piece(source: int, target: int, offset: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count, offset_src=offset, offset_dst=offset)
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE_HERE:
            raise
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)
