"""The ``.part`` file that a download writes: positions, short writes, full disks."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from transship.domain.errors import StagingBroken, StagingFull, TransferFailed

WRITE_BACK_BYTES: Final = 32 * 1024 * 1024
"""Bytes after which the kernel is asked to begin writing, so that the last fsync is short."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SYNC_FILE_RANGE_WRITE: Final = 2
_LIBC: Final = ctypes.CDLL(None)


class PartFile:
    """A file that grows at its position; made if missing, never through a symbolic link.

    Attributes:
        position: bytes from the start at which the next write goes.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            StagingBroken, StagingFull: it cannot be opened for writing.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _staging_error(error, 0, path.parent) from error
        self._path = path
        self.position = 0
        self._flushed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes that the file holds."""
        return os.fstat(self._fd).st_size

    def go_on_at(self, position: int) -> None:
        """Write next at ``position``, which the file reaches already."""
        self.position = self._flushed = position

    def empty(self) -> None:
        """Drop all bytes and write next at the start.

        Raises:
            StagingBroken: the file cannot be changed.
        """
        try:
            os.ftruncate(self._fd, 0)
        except OSError as error:
            raise _staging_error(error, 0, self._path.parent) from error
        self.go_on_at(0)

    def write(self, data: memoryview) -> None:
        """Write all of ``data`` at the position.

        Raises:
            StagingFull: no room, or a quota; what fitted stays.
            StagingBroken: the disk does not take it.
        """
        rest = data
        while rest:
            try:
                written = os.pwrite(self._fd, rest, self.position)
            except OSError as error:
                raise _staging_error(error, len(rest), self._path.parent) from error
            self.position += written
            rest = rest[written:]
        if self.position - self._flushed >= WRITE_BACK_BYTES:
            self._begin_write_back()

    def _begin_write_back(self) -> None:
        # A hint: what the kernel answers changes nothing, and the caller's fsync tells of real errors.
        _LIBC.sync_file_range(
            self._fd,
            ctypes.c_int64(self._flushed),
            ctypes.c_int64(self.position - self._flushed),
            _SYNC_FILE_RANGE_WRITE,
        )
        self._flushed = self.position


def _staging_error(error: OSError, needed_bytes: int, directory: Path) -> TransferFailed:
    if error.errno in _NO_ROOM:
        return StagingFull(needed_bytes, _available(directory))
    return StagingBroken(f"{os.strerror(error.errno or 0)} in {directory}")


def _available(directory: Path) -> int:
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
