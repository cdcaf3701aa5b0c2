"""Rate limits: how many bytes a second all imports and uploads of this host together write to a store.

The token bucket is a small file that the host's processes share, so no network request is needed while bytes move. A
rate may delay a copy but never fails an import: if the file cannot be used, the copy is written without a limit.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from config.settings import Settings
from transship.domain.staged import Pace, unpaced
from transship.domain.stop import StopToken

MIB: Final = 1024 * 1024
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_RECORD: Final = struct.Struct("<16sd")
"""The boot id, and the time on that boot's clock at which all booked bytes have been written."""

log = structlog.get_logger("transship.rates")


def store_pace(settings: Settings, store: str, stop: StopToken) -> Pace:
    """Return the function that a copy calls before it moves bytes, to wait its turn; a stop ends the wait."""
    rate_mib_per_s = settings.imports.store_mib_per_s.get(store)
    if rate_mib_per_s is None:
        return unpaced
    bucket = SharedBucket(settings.run_dir / f"rate-{store}", rate_mib_per_s * MIB)

    def pace(size_bytes: int) -> None:
        try:
            wait_s = bucket.book(size_bytes)
        except OSError as error:
            log.warning("rate limit of the store not applied", store=store, reason=str(error))
            return
        if wait_s > 0:
            stop.wait(wait_s)

    return pace


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SharedBucket:
    """A token bucket without bursts, in a file that processes share.

    Args:
        path: of the file; created on first use.
        bytes_per_s: how fast the bucket fills.
        clock: seconds since boot.
        boot: boot id; the state of an earlier boot is ignored.
    """

    def __init__(
        self, path: Path, bytes_per_s: float, clock: Callable[[], float] = _now, boot: UUID | None = None
    ) -> None:
        self._path = path
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._boot = boot or UUID(BOOT_ID.read_text().strip())

    def book(self, size_bytes: int) -> float:
        """Book bytes, and return the seconds until it is their turn; 0 or less: now.

        Raises:
            OSError: the file cannot be used; nothing is booked.
        """
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = self._clock()
            begin = max(now, self._through(os.pread(descriptor, _RECORD.size, 0)))
            os.pwrite(descriptor, _RECORD.pack(self._boot.bytes, begin + size_bytes / self._bytes_per_s), 0)
            return begin - now
        finally:
            os.close(descriptor)

    def _through(self, record: bytes) -> float:
        if len(record) != _RECORD.size:
            return 0.0
        boot, through = _RECORD.unpack(record)
        return float(through) if boot == self._boot.bytes else 0.0
