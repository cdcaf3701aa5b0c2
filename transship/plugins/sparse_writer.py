"""Writes an archive's content sparsely and within a bound; runs of zeros become holes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transship.domain.errors import ImageTooLarge, StagingFull
from transship.host.sparse_writing import data_ranges, write_all
from transship.plugins.base import Workspace

RESERVE_STEP_BYTES: Final = 64 * 1024 * 1024
WHAT: Final = "decompressed image"


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit of the output, and the setting that defines it."""

    limit_bytes: int
    option: str

    def check(self, size_bytes: int) -> None:
        """Refuse a size.

        Raises:
            ImageTooLarge: it exceeds the bound.
        """
        if size_bytes > self.limit_bytes:
            raise ImageTooLarge(WHAT, size_bytes, self.limit_bytes, self.option)


class SparseWriter:
    """Writes consecutive pieces, leaves holes for zeros, enforces the bound and reserves room."""

    def __init__(self, descriptor: int, path: Path, workspace: Workspace, bound: Bound) -> None:
        self._descriptor, self._path, self._workspace, self._bound = descriptor, path, workspace, bound
        self._reserved_bytes = 0
        self._data_bytes = 0
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            ImageTooLarge: the bound is exceeded; the piece was not written.
            StagingFull: there is no room for it.
        """
        end = self.size_bytes + len(piece)
        self._bound.check(end)
        view = memoryview(piece)
        for first, last in data_ranges(piece, self.size_bytes):
            self._reserve(last - first)
            write_all(self._descriptor, view[first:last], self.size_bytes + first)
        self.size_bytes = end

    def finish(self) -> None:
        """Set the length of the file, which a hole at its end does not."""
        os.ftruncate(self._descriptor, self.size_bytes)

    def _reserve(self, more_bytes: int) -> None:
        self._data_bytes += more_bytes
        if self._data_bytes <= self._reserved_bytes:
            return
        generous = min(self._bound.limit_bytes, self._data_bytes + max(RESERVE_STEP_BYTES, self._data_bytes // 4))
        try:
            self._workspace.reserve(self._path, generous)
            self._reserved_bytes = generous
        except StagingFull:
            self._workspace.reserve(self._path, self._data_bytes)
            self._reserved_bytes = self._data_bytes
