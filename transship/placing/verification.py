"""Verify copies: a new one against the file that was copied, and any one against the image's digest."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from transship.domain.errors import ObjectMissing, StoredDiffers
from transship.domain.stop import StopToken
from transship.domain.verification import Verification
from transship.domain.waiting import CopyWatch
from transship.host.staging_faults import staging_error
from transship.stores.base import StoreDriver
from transship.stores.copying import data_extents

SAMPLES: Final = 8
SAMPLE_BYTES: Final = 256 * 1024


def verify_copy(
    driver: StoreDriver, store: str, url: str, path: Path, size: int, stop: StopToken, watch: CopyWatch
) -> None:
    """Make sure that a store holds what it was given, as thoroughly as the store's settings ask for.

    Args:
        path: of the file on this host; holes in it are not sampled.
        size: of the file, in bytes.

    Raises:
        StoredDiffers: the store holds other bytes, or more or fewer of them; they are still there.
        ObjectMissing, StoreDenied, StoreUnavailable: the copy cannot be read.
        StagingBroken: the file cannot be read.
        LockLost, ImportStopped: the work must end.
    """
    if driver.verification is Verification.NONE:
        return
    found = driver.size(url)
    if found != size:
        raise StoredDiffers(store, f"{size} bytes", f"{found} bytes")
    copy = driver.local_file(url)
    try:
        if copy is not None and copy.samefile(path):
            return
        with path.open("rb", buffering=0) as file:
            if driver.verification is Verification.SAMPLE:
                ranges = samples(file.fileno(), size)
            else:
                watch.verify()
                ranges = iter([(0, size)])
            for offset, length in ranges:
                _compare(driver, store, url, file.fileno(), offset, length, stop)
    except OSError as error:
        raise staging_error(error, 0) from error


def samples(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the samples of a file: the beginning and the end of its data, and random ones between.

    A sample ends where a hole begins.
    """
    extents = list(data_extents(descriptor, size))
    data_bytes = sum(end - start for start, end in extents)
    last = max(0, data_bytes - SAMPLE_BYTES)
    for position in sorted({0, last, *(secrets.randbelow(last + 1) for _ in range(SAMPLES - 2))}):
        before = 0
        for start, end in extents:
            if position < before + end - start:
                offset = start + position - before
                yield offset, min(SAMPLE_BYTES, end - offset)
                break
            before += end - start


def _compare(
    driver: StoreDriver, store: str, url: str, descriptor: int, offset: int, length: int, stop: StopToken
) -> None:
    end = offset + length
    for piece in driver.read(url, offset, length):
        stop.check()
        if piece != os.pread(descriptor, len(piece), offset):
            raise StoredDiffers(store, f"the bytes written at {offset}", "others")
        offset += len(piece)
    if offset != end:
        raise StoredDiffers(store, f"bytes up to {end}", f"the end at {offset}")


def find_damage(
    driver: StoreDriver, url: str, size: int, algorithm: str, digest: str, pace: Callable[[int], None]
) -> str | None:
    """Read a copy, and return what is wrong with it; None if it is what it should be.

    Args:
        size: bytes that it should have.
        digest: that its bytes should have, lower-case hex.
        pace: called with the size of each piece that was read; may wait.

    Raises:
        StoreDenied, StoreUnavailable: it cannot be read now.
    """
    running, done = hashlib.new(algorithm, usedforsecurity=False), 0
    try:
        for piece in driver.read(url):
            pace(len(piece))
            running.update(piece)
            done += len(piece)
    except ObjectMissing:
        return "the store does not hold it"
    if done != size:
        return f"it has {done} bytes, the image {size}"
    found = running.hexdigest()
    return None if found == digest else f"its {algorithm} is {found}, the image's {digest}"
