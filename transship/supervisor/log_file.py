"""Log files of the supervised processes: one per component, rotated by size."""

from __future__ import annotations

from pathlib import Path


class RotatingFile:
    """A log file that is renamed to ``.1`` when it is full; older files are renumbered and the oldest is removed.

    On a full or broken disk, lines are lost, but the process that wrote them is not affected.

    Attributes:
        path: the current file.
        max_bytes: largest size of the file, unless a single line is longer.
        backups: number of rotated files to keep; 0: the file is emptied instead.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path, self.max_bytes, self.backups = path, max_bytes, backups
        self._stream = path.open("ab", buffering=0)
        self._size = self._stream.tell()

    def write_line(self, line: str) -> None:
        """Append a line."""
        encoded = line.encode("utf-8", errors="replace") + b"\n"
        try:
            if self._size and self._size + len(encoded) > self.max_bytes:
                self._rotate()
            self._stream.write(encoded)
        except OSError:
            return
        self._size += len(encoded)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _rotate(self) -> None:
        self._stream.close()
        for number in range(self.backups, 0, -1):
            older = self._backup(number)
            newer = self.path if number == 1 else self._backup(number - 1)
            if newer.exists():
                newer.replace(older)
        self._stream = self.path.open("wb", buffering=0)
        self._size = 0

    def _backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
