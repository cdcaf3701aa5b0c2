"""The ``.part`` file that a download writes: positions, short writes, full disks."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from transship.host.staging_faults import staging_error
from transship.host.write_back import start_write_back

WRITE_BACK_BYTES: Final = 32 * 1024 * 1024
"""Bytes after which the kernel is asked to begin writing, so that the last fsync is short."""


class PartFile:
    """A file that grows at its position, or is written at any place by several threads.

    Made if missing, never through a symbolic link.

    Attributes:
        path: where it lies.
        position: bytes from the start at which the next `write` goes.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes that the file holds, holes included."""
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
            raise staging_error(error, 0, self.path.parent) from error
        self.go_on_at(0)

    def write(self, data: memoryview) -> None:
        """Write all of ``data`` at the position.

        Raises:
            StagingFull: no room, or a quota; what fitted stays.
            StagingBroken: the disk does not take it.
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
        """Write all of ``data`` at ``place`` and leave the position alone; several threads may do so at once.

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
        """Wait until the disk has all that was written.

        Raises:
            StagingFull, StagingBroken: it has not.
        """
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise staging_error(error, 0, self.path.parent) from error
