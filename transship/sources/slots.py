"""Limits the connections that all imports of one machine have to one host.

A slot is a lock on one byte of a file that all processes share. The kernel releases it when the process ends, so no
clean-up is needed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from transship.host.staging_faults import staging_error
from transship.sources.dialling import STEP_S
from transship.sources.watch import Waiting

Release = Callable[[], None]

_FLOCK: Final = "hhqqi4x"  # struct flock of 64-bit Linux
_ROW_BYTES: Final = 4096  # bytes per host: the queue, then its slots
_TAKEN: Final = frozenset({errno.EAGAIN, errno.EACCES})


class ConnectionSlots:
    """Slots for connections, by host.

    Args:
        path: the file; created if missing.
        per_host: connections to one host, 1 to 4000.
        waiting: called with the host when the wait for a first connection begins.
    """

    def __init__(self, path: Path, per_host: int, waiting: Callable[[str], None] = lambda _host: None) -> None:
        self._waiting = waiting
        self._path = path
        self._per_host = min(per_host, _ROW_BYTES - 1)

    def take(self, host: str, watch: Waiting) -> Release:
        """Wait for a slot and take it; a first connection goes before additional ones.

        Raises:
            StagingBroken: the file cannot be used.
            TransferFailed, LockLost: the watch ended the wait.
        """
        with ExitStack() as undo:
            descriptor = self._open()
            undo.callback(os.close, descriptor)
            if not self._lock_one(descriptor, host):
                self._waiting(host)
                self._queue_up(descriptor, host, watch)
            return undo.pop_all().close

    def _queue_up(self, descriptor: int, host: str, watch: Waiting) -> None:
        queue, queued = self._open(), False
        try:
            while not self._lock_one(descriptor, host):
                queued = queued or _lock(queue, fcntl.F_RDLCK, _row(host))
                watch.check()
                watch.stop.wait(STEP_S)
        finally:
            os.close(queue)

    def take_one_more(self, host: str) -> Release | None:
        """Take a slot for an additional connection; None when none is free or another import waits for its first.

        Raises:
            StagingBroken: the file cannot be used.
        """
        with ExitStack() as undo:
            descriptor = self._open()
            undo.callback(os.close, descriptor)
            nobody_waits = _lock(descriptor, fcntl.F_WRLCK, _row(host))
            _lock(descriptor, fcntl.F_UNLCK, _row(host))
            free = nobody_waits and self._lock_one(descriptor, host)
            return undo.pop_all().close if free else None

    def _lock_one(self, descriptor: int, host: str) -> bool:
        first = _row(host) + 1
        return any(_lock(descriptor, fcntl.F_WRLCK, first + slot) for slot in range(self._per_host))

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise staging_error(error, 0, self._path.parent) from error


def _row(host: str) -> int:
    return int.from_bytes(hashlib.sha256(host.encode()).digest()[:6], "big") * _ROW_BYTES


def _lock(descriptor: int, kind: int, place: int) -> bool:
    """Lock one byte for this open file description; return False when another one holds it."""
    wanted = struct.pack(_FLOCK, kind, os.SEEK_SET, place, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True
