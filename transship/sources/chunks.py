"""The body of an answer that comes in chunks (RFC 9112, section 7.1).

http.client takes any two bytes for the end of a chunk, and a size that is cut for the whole one: what a spoilt
body holds would pass as complete.
"""

from __future__ import annotations

import re
from typing import Final

from transship.sources.wire import LineReader, WireBroken

_LONGEST_LINE: Final = 65536
_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


class Chunks:
    """Reads the chunks of one body.

    Args:
        reader: stands behind the answer's head.
    """

    def __init__(self, reader: LineReader) -> None:
        self._reader = reader
        self._left_bytes = 0
        self._begun = self._ended = False

    def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer`` and return how many; 0 after the last chunk.

        Raises:
            WireBroken: the body ended before its last chunk, or what stands between two is none of its ends.
        """
        if not self._left_bytes and not self._ended:
            self._go_to_next()
        if self._ended:
            return 0
        read = self._reader.readinto1(buffer[: self._left_bytes])
        if not read:
            raise WireBroken("the connection was closed within a chunk")
        self._left_bytes -= read
        return read

    def _go_to_next(self) -> None:
        if self._begun and self._line() != b"\r\n":
            raise WireBroken("a chunk does not end where its size says")
        self._begun = True
        size = _SIZE.fullmatch(self._line())
        if size is None:
            raise WireBroken("the chunks ended without the last one, or a chunk's size is none")
        self._left_bytes = int(size[1], 16)
        if not self._left_bytes:
            self._pass_trailers()
            self._ended = True

    def _pass_trailers(self) -> None:
        # Some servers close the connection in the place of the last empty line.
        while self._line() not in (b"\r\n", b"\n", b""):
            pass

    def _line(self) -> bytes:
        return self._reader.readline(_LONGEST_LINE)
