"""Let the kernel begin to write what lies in its cache."""

from __future__ import annotations

import ctypes
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
"""Start write-back and do not wait. Source: sync_file_range(2)."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def start_write_back(descriptor: int, offset: int, count: int) -> None:
    """Let the kernel begin to write bytes out, so that a later fsync is short; nothing is waited for."""
    # Only a hint: what it cannot do, fsync does later and reports.
    _LIBC.sync_file_range(
        descriptor, ctypes.c_int64(offset), ctypes.c_int64(count), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )
