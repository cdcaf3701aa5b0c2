"""Ask the kernel to start writing cached data to disk."""

from __future__ import annotations

import ctypes
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
"""Flag: start write-back without waiting. Source: sync_file_range(2)."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def start_write_back(descriptor: int, offset: int, count: int) -> None:
    """Start writing a range to disk without waiting, which keeps a later fsync short."""
    # Only a hint: errors are ignored because a later fsync reports them.
    _LIBC.sync_file_range(
        descriptor, ctypes.c_int64(offset), ctypes.c_int64(count), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )
