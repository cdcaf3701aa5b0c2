"""The ``.part`` file that a download writes: handles positions, short writes and full disks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from transship.host.staging_faults import staging_error
from transship.host.write_back import start_write_back

WRITE_BACK_BYTES: Final = 32 * 1024 * 1024
"""Bytes after which the kernel is asked to start write-back, which keeps the final fsync short."""


class PartFile:
    """A file that is appended to at its position, or written at any offset by several threads.

    Created if missing; symbolic links are not followed.

    Attributes:
        path: of the file.
        position: offset of the next `write`.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            StagingBroken, StagingFull: it cannot be opened for writing.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise staging_error(error, 0, path.parent) from error
        self.path = path
        self.position = 0
        self._flushed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes that the file holds, holes included."""
        return os.fstat(self._fd).st_size

    def continue_at(self, position: int) -> None:
        """Continue writing at ``position``, which must not exceed the file's size."""
        self.position = self._flushed = position

    def empty(self) -> None:
        """Drop all bytes and write next at the start.

        Raises:
            StagingBroken: the file cannot be changed.
        """
        try:
            os.ftruncate(self._fd, 0)
        except OSError as error:
            raise staging_error(error, 0, self.path.parent) from error
        self.continue_at(0)

    def write(self, data: memoryview) -> None:
        """Write all of ``data`` at the position.

        Raises:
            StagingFull: no space, or a quota was reached; the part that fitted stays.
            StagingBroken: the disk reported an error.
        """
        rest = data
        while rest:
            written = self._pwrite(rest, self.position)
            self.position += written
            rest = rest[written:]
        if self.position - self._flushed >= WRITE_BACK_BYTES:
            self.begin_write_back(self._flushed, self.position)
            self._flushed = self.position

    def write_at(self, data: memoryview, place: int) -> None:
        """Write all of ``data`` at offset ``place`` without moving the position; threads may do so concurrently.

        Raises:
            StagingFull, StagingBroken: as `write`.
        """
        while data:
            written = self._pwrite(data, place)
            place += written
            data = data[written:]

    def _pwrite(self, data: memoryview, place: int) -> int:
        try:
            return os.pwrite(self._fd, data, place)
        except OSError as error:
            raise staging_error(error, len(data), self.path.parent) from error

    def begin_write_back(self, first: int, end: int) -> None:
        """Ask the kernel to begin writing bytes ``first`` to ``end`` to the disk."""
        start_write_back(self._fd, first, end - first)

    def sync(self) -> None:
        """Wait until everything written is on disk.

        Raises:
            StagingFull, StagingBroken: it is not.
        """
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise staging_error(error, 0, self.path.parent) from error
