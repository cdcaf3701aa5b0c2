"""Small objects beside the images: the mark that says whose pool it is, and the trial of `check`.

Each request waits for a limited time, so that a cluster that does not answer is noticed soon.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import rados

from transship.host.directories import MARK

CHECK_OBJECT: Final = ".transship-check"
_MARK_BYTES: Final = 4096


def read_mark(ioctx: rados.Ioctx) -> str | None:
    """Return the mark of a pool; None without one, empty if an operator says that the pool is the right one."""
    try:
        return str(ioctx.read(MARK, _MARK_BYTES).decode(errors="replace")).strip()
    except rados.ObjectNotFound:
        return None


def write_mark(ioctx: rados.Ioctx, text: str) -> str:
    """Mark a pool that has no mark or an empty one; return the mark that it has then."""
    if read_mark(ioctx) is None:
        with rados.WriteOpCtx() as operation, suppress(rados.ObjectExists):
            operation.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
            operation.write_full(text.encode())
            ioctx.operate_write_op(operation, MARK)
    if not read_mark(ioctx):
        ioctx.write_full(MARK, text.encode())
    return read_mark(ioctx) or ""


def read_mark_within(ioctx: rados.Ioctx, until: float) -> str | None:
    """Return the mark as `read_mark` does.

    Args:
        until: when the pool must have answered, by the monotonic clock.

    Raises:
        OSError: the mark cannot be read; ETIMEDOUT: the pool did not answer in time.
    """
    found: list[bytes] = []

    def begin(done: Callable[[Any], None]) -> None:
        def read(completion: Any, data: bytes | None) -> None:
            found.append(data or b"")
            done(completion)

        ioctx.aio_read(MARK, _MARK_BYTES, 0, read)

    if _answered(begin, until) == errno.ENOENT:
        return None
    return found[0].decode(errors="replace").strip()


def try_writing(ioctx: rados.Ioctx, until: float) -> None:
    """Write and remove a small object. Its name is fixed, so the next trial removes what a killed one left.

    Args:
        until: when the pool must have answered, by the monotonic clock.

    Raises:
        OSError: the pool cannot be written; ETIMEDOUT: it did not answer in time.
    """
    _answered(lambda done: ioctx.aio_write_full(CHECK_OBJECT, b"\0", oncomplete=done), until)
    # Another check may have removed it; that one's result is just as good.
    _answered(lambda done: ioctx.aio_remove(CHECK_OBJECT, oncomplete=done), until)


def _answered(begin: Callable[[Callable[[Any], None]], object], until: float) -> int:
    """Begin a request and wait for its end; return its error code if that is ENOENT, else 0."""
    ended = threading.Event()
    codes: list[int] = []

    def done(completion: Any) -> None:
        codes.append(-completion.get_return_value())
        ended.set()

    begin(done)
    code = codes[0] if ended.wait(max(0.0, until - time.monotonic())) else errno.ETIMEDOUT
    if code > 0 and code != errno.ENOENT:
        raise OSError(code, os.strerror(code))
    return max(0, code)
