"""Move an image's bytes: several requests are under way at any time, each within one object of the image."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import rbd

from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.sparse_reading import FileEnded, data_extents
from transship.stores.staged_source import staged_broken

MIB: Final = 1024 * 1024
WRITE_BYTES: Final = 4 * MIB
"""Most bytes of one write. librbd copies them, so twice the writes under way is what an image takes in memory."""

READ_BYTES: Final = 4 * MIB
"""Most bytes of one read: what the store contract allows for a piece."""

WRITES: Final = 8
READS: Final = 4
"""Requests under way; more of them are not faster."""

_TURN_S: Final = 0.5
"""Seconds between checks of the stop token while all requests are under way."""


def write_data(
    image: rbd.Image, source: int, staged: StagedFile, object_bytes: int, step: Callable[[int], None], stop: StopToken
) -> None:
    """Write the data extents of a staged file to an image of its size; holes are not written.

    When this returns or raises, no write is under way.

    Args:
        image: new and open.
        source: descriptor of the file.
        staged: the file.
        object_bytes: size of the image's objects.
        step: called with the bytes done before each write; an exception ends it.
        stop: checked before each write and while it waits.

    Raises:
        StagingBroken: the file cannot be read to its end.
        OSError: a write failed.
        rbd.Error: likewise.
    """
    writes = _Writes(image)
    try:
        for start, end in data_extents(source, staged.size):
            for offset, length in _pieces(start, end, object_bytes):
                stop.check()
                step(offset)
                staged.pace(length)
                writes.begin(_read_staged(source, staged, offset, length), offset, stop)
    except FileEnded as error:
        raise staged_broken(staged.path, error.reason) from error
    finally:
        writes.wait()
    writes.raise_first()
    image.flush()


def _pieces(start: int, end: int, object_bytes: int) -> Iterator[tuple[int, int]]:
    while start < end:
        border = min(start - start % object_bytes + object_bytes, start + WRITE_BYTES, end)
        yield start, border - start
        start = border


def _read_staged(source: int, staged: StagedFile, offset: int, length: int) -> bytes:
    try:
        data = os.pread(source, length, offset)
    except OSError as error:
        raise staged_broken(staged.path, error.strerror or str(error)) from error
    if len(data) != length:
        raise FileEnded(source, staged.size)
    return data


class _Writes:
    """The writes under way; the first error ends them."""

    def __init__(self, image: rbd.Image) -> None:
        self._image = image
        self._free = threading.Semaphore(WRITES)
        self._error = 0

    def begin(self, data: bytes, offset: int, stop: StopToken) -> None:
        while not self._free.acquire(timeout=_TURN_S):
            stop.check()
        try:
            self.raise_first()
            # The data belong to librbd until it calls back.
            self._image.aio_write(data, offset, partial(self._done, data))
        except BaseException:
            self._free.release()
            raise

    def _done(self, _data: bytes, completion: Any) -> None:
        code = completion.get_return_value()
        if code < 0 and not self._error:
            self._error = -code
        self._free.release()

    def raise_first(self) -> None:
        if self._error:
            raise OSError(self._error, os.strerror(self._error))

    def wait(self) -> None:
        """Wait until no write is under way; each one ends, at the latest when the cluster's answer is overdue."""
        for _ in range(WRITES):
            self._free.acquire()
        self._free.release(WRITES)


def read_data(image: rbd.Image, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of an image from ``start`` to ``end``, and read ahead meanwhile.

    Raises:
        OSError: a read failed.
        rbd.Error: likewise.
    """
    ahead: deque[_Read] = deque()
    for offset in range(start, end, READ_BYTES):
        ahead.append(_Read(image, offset, min(READ_BYTES, end - offset)))
        if len(ahead) == READS:
            yield ahead.popleft().data()
    while ahead:
        yield ahead.popleft().data()


class _Read:
    """A read under way."""

    def __init__(self, image: rbd.Image, offset: int, length: int) -> None:
        self._ended = threading.Event()
        self._code = 0
        self._data = b""
        image.aio_read(offset, length, self._done)

    def _done(self, completion: Any, data: bytes | None) -> None:
        self._code, self._data = completion.get_return_value(), data or b""
        self._ended.set()

    def data(self) -> bytes:
        self._ended.wait()
        if self._code < 0:
            raise OSError(-self._code, os.strerror(-self._code))
        return self._data
