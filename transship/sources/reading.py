"""Read a source piece by piece without writing a file: all of it, or a range, always of a single version.

The first response decides which version is read. If it breaks off, the rest is requested with ``If-Range``, and used
only if the server proves that the version is the same. A server without ranges is read from the start and skipped
forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from transship.domain.errors import SourceChanged, SourceRefused, SourceTruncated
from transship.sources.answer import (
    WHOLE,
    Fit,
    Span,
    Validators,
    range_fit,
    span_of,
    total_of,
    validators_of,
    whole_size_of,
)
from transship.sources.client import SourceClient
from transship.sources.connection import Connection
from transship.sources.dialling import ConnectionBroken
from transship.sources.watch import Waiting

PIECE_BYTES: Final = 1024 * 1024
"""Bytes of each piece but the last."""

_FIRST_BYTE: Final = {"Range": "bytes=0-0"}


def size_of_source(client: SourceClient, watch: Waiting) -> int:
    """Return the size that a server announces, in bytes.

    The first byte is requested: unlike HEAD, this works with URLs that are signed for GET.

    Raises:
        SourceRefused: no usable answer, or it announces no size.
        TransferFailed, LockLost: as `SourceClient.get`.
    """
    for wanted in (_FIRST_BYTE, {}):
        with client.get(wanted, watch) as answer:
            total = _announced_total(answer)
            if total is not None:
                return total
            display, status = answer.display, answer.status
    raise SourceRefused(display, status, "it does not announce the size")


def _announced_total(answer: Connection) -> int | None:
    if answer.status == 416:
        return whole_size_of(answer.headers)
    span = span_of(answer.headers) if answer.status == 206 else None
    if span is not None:
        return span.total
    return total_of(answer.display, answer.status, answer.headers, answer.framing()) if answer.status in WHOLE else None


class RangeReader:
    """Reads one range of a source, once.

    Args:
        client: requests the source.
        watch: ends the wait.
        offset: first byte.
        length: bytes; None: to the end. What lies beyond the source's end is left out.
    """

    def __init__(self, client: SourceClient, watch: Waiting, offset: int, length: int | None) -> None:
        self._client, self._watch = client, watch
        self._position = offset
        self._end = None if length is None else offset + length
        self._version: Validators | None = None

    def pieces(self) -> Iterator[bytes]:
        """Yield the range in pieces of `PIECE_BYTES`; the last may be shorter, none is empty.

        Raises:
            SourceTruncated: it broke off, and cannot be continued.
            SourceChanged: it broke off, and has changed since.
            TransferFailed, LockLost: as `SourceClient.get`.
        """
        buffer = memoryview(bytearray(PIECE_BYTES))
        filled = 0
        while self._end is None or self._position < self._end:
            before = self._position
            try:
                with self._requested() as answer:
                    while (read := self._read(answer, buffer[filled:])) > 0:
                        filled += read
                        if filled == PIECE_BYTES:
                            yield bytes(buffer)
                            filled = 0
                    display = answer.display
            except ConnectionBroken as broken:
                self._require_continuable(before, broken)
                continue
            if self._end is None or self._position >= self._end:
                break
            self._require_continuable(before, ConnectionBroken(f"{display} sent less than was requested"))
        if filled:
            yield bytes(buffer[:filled])

    def _read(self, answer: Connection, buffer: memoryview) -> int:
        if self._end is not None:
            buffer = buffer[: max(0, self._end - self._position)]
        read = answer.read_into(buffer) if buffer else 0
        self._position += read
        return read

    def _require_continuable(self, before: int, broken: ConnectionBroken) -> None:
        """Make sure that the rest can be requested: there was some progress, and there are strong validators.

        Raises:
            SourceTruncated: it cannot.
        """
        version = self._version
        if self._position == before or version is None or not version.strong or version.total_bytes is None:
            raise SourceTruncated(self._watch.uri, self._end or 0, self._position) from broken

    def _requested(self) -> Connection:
        """Return a response whose next byte is the one at the position, or that has none there."""
        wanted = self._headers()
        answer = self._client.get(wanted, self._watch)
        try:
            start = self._start_of(answer, wanted)
            if start is not None:
                _skip(answer, self._position - start)
                return answer
            answer.close()
            answer = self._client.get({}, self._watch)
            _skip(answer, self._position - self._begun(answer))
        except BaseException:
            answer.close()
            raise
        return answer

    def _headers(self) -> dict[str, str]:
        last = "" if self._end is None else self._end - 1
        ranges = f"bytes={self._position}-{last}"
        if self._version is not None:
            return self._version.headers(ranges)
        return {"Range": ranges} if self._position or self._end is not None else {}

    def _start_of(self, answer: Connection, wanted: dict[str, str]) -> int | None:
        """Return the offset of the response's first byte; None if the server does not serve the range.

        Raises:
            SourceChanged: it is another version than the one that was begun.
        """
        if self._version is not None:
            return self._continued(answer, self._version)
        if answer.status in WHOLE or not wanted:
            return self._begun(answer)
        total = whole_size_of(answer.headers) if answer.status == 416 else None
        if total is not None and total <= self._position:
            self._end = self._position  # it ends before the range
            return self._position
        span = span_of(answer.headers) if answer.status == 206 else None
        if span is None or span.first != self._position or answer.framing().length != span.last - span.first + 1:
            return None
        self._note(answer, span.total)
        return span.first

    def _begun(self, answer: Connection) -> int:
        """Begin with a response that holds the whole source; return the offset of its first byte."""
        self._note(answer, total_of(answer.display, answer.status, answer.headers, answer.framing()))
        return 0

    def _note(self, answer: Connection, total: int | None) -> None:
        self._version = validators_of(answer.headers, total, datetime.now(UTC))
        if total is not None:
            self._end = total if self._end is None else min(self._end, total)

    def _continued(self, answer: Connection, version: Validators) -> int:
        """Return where a response to a request for the rest of a version begins.

        Raises:
            SourceChanged: it is of another version.
            SourceTruncated: it is neither the rest nor provably the same version.
        """
        total = version.total_bytes or 0
        span = span_of(answer.headers) if answer.status == 206 else None
        last = (self._end or total) - 1 if span is None else span.last  # some servers send less than was requested
        wanted = Span(self._position, last, total)
        fit = range_fit(answer.status, answer.headers, answer.framing(), wanted, version)
        if fit is Fit.FITS:
            return self._position
        if fit is Fit.CHANGED:
            raise SourceChanged(answer.display)
        again = validators_of(answer.headers, answer.framing().length, datetime.now(UTC))
        if answer.status in WHOLE and again.if_range == version.if_range and again.total_bytes == total:
            return 0
        raise SourceTruncated(answer.display, self._end or 0, self._position)


def _skip(answer: Connection, size_bytes: int) -> None:
    """Read past bytes of a body, or to its end.

    Raises:
        ConnectionBroken: it broke off.
    """
    buffer = memoryview(bytearray(min(PIECE_BYTES, max(0, size_bytes))))
    while size_bytes > 0:
        read = answer.read_into(buffer[:size_bytes])
        if not read:
            return
        size_bytes -= read
