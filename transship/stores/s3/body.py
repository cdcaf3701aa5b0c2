"""The body of a part: read from the staged file while it is sent, within its rate, until the work must end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Piece = bytes | memoryview


class Abandoned(Exception):
    """The rest of a part is not needed, because the upload has ended."""


class PartBody:
    """A part as botocore takes it: something to ``read`` and to rewind.

    ``read`` returns pieces as they come, whatever size is asked for: urllib3 asks for 16 KiB, which would cost more
    than sending them, and passes each piece to the socket as it is.

    Args:
        pieces: makes an iterator over its bytes; a piece is valid until the next one is requested.
        before: called with the size of each piece before it is handed out; may raise.
    """

    def __init__(self, pieces: Callable[[], Iterator[Piece]], before: Callable[[int], None]) -> None:
        self._make, self._pieces = pieces, pieces()
        self._before = before

    def read(self, _count: int = -1) -> Piece:
        """Return the next piece; empty at the end."""
        piece = next(self._pieces, b"")
        if piece:
            self._before(len(piece))
        return piece

    def seek(self, _offset: int, _whence: int = 0) -> int:
        """Go back to the start, for a request that is sent again; botocore goes nowhere else."""
        self._pieces = self._make()
        return 0
