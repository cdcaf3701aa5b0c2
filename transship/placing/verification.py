"""Verify copies: a new one against the file that was copied, and any one against the image's digest."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from transship.domain.errors import ObjectMissing, StoredDiffers
from transship.domain.import_data import SealedFile
from transship.domain.stop import StopToken
from transship.domain.verification import Verification
from transship.domain.waiting import CopyWatch
from transship.host.sparse_reading import data_extents
from transship.host.staging_faults import staging_error
from transship.stores.base import StoreDriver

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
                ranges = samples(list(data_extents(file.fileno(), size)))
            else:
                watch.verify()
                ranges = iter([(0, size)])

            def original(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            for offset, length in ranges:
                _compare(driver, store, url, original, offset, length, stop)
    except OSError as error:
        raise staging_error(error, 0) from error


def verify_stored_copy(
    driver: StoreDriver, store: str, url: str, origin: StoreDriver, file: SealedFile, stop: StopToken, watch: CopyWatch
) -> None:
    """Do the same as `verify_copy` with the copy of another store's object: samples are compared with that object.

    A full verification compares the image's digest.

    Args:
        origin: the driver of that store.
        file: that object.

    Raises:
        StoredDiffers, ObjectMissing, StoreDenied, StoreUnavailable, LockLost, ImportStopped: as in `verify_copy`; the
            second to fourth also for the object.
    """
    match driver.verification:
        case Verification.FULL:
            watch.verify()
            algorithm, digest = list(file.digests.items())[-1]
            damage = find_damage(driver, url, file.size, algorithm, digest, lambda _bytes: stop.check())
            if damage is not None:
                raise StoredDiffers(store, "the image's data", damage)
        case Verification.SAMPLE:
            found = driver.size(url)
            if found != file.size:
                raise StoredDiffers(store, f"{file.size} bytes", f"{found} bytes")

            def original(offset: int, length: int) -> bytes:
                return b"".join(origin.read(file.url, offset, length))

            for offset, length in samples([(0, file.size)]):
                _compare(driver, store, url, original, offset, length, stop)


def samples(extents: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield offset and length of samples: the beginning and the end of the data, and random ones between.

    A sample ends where a hole begins.

    Args:
        extents: start and end of each extent of data.
    """
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
    driver: StoreDriver,
    store: str,
    url: str,
    original: Callable[[int, int], bytes],
    offset: int,
    length: int,
    stop: StopToken,
) -> None:
    end = offset + length
    for piece in driver.read(url, offset, length):
        stop.check()
        if piece != original(offset, len(piece)):
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
