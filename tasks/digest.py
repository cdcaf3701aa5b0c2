"""The digests of the final bytes, computed once while the copies are written."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from config.settings import Settings
from tasks.retrying import as_copies
from tasks.session import ImportSession, current
from tasks.staged_files import path_of
from tasks.steps import step
from tasks.stores import using_store
from transship.domain.errors import StoredDiffers
from transship.domain.image import Image
from transship.domain.import_data import Digests, Done, FinalData, Outcome, SealedFile, Skipped
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.sparse_reading import read_pieces
from transship.host.staging_faults import staging_error


@step("digest", "digest", as_copies)
def digest(final: FinalData) -> Outcome[Digests]:
    """Compute the image's digests unless they were computed when the data arrived.

    Raises:
        StagingBroken: the file cannot be read.
        StoredDiffers, ObjectMissing, StoreDenied, StoreMisconfigured, StoreUnavailable: an object of a store cannot be
            read, or has another size.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    algorithms = algorithms_of(session.settings, final.image)
    algorithm = algorithms[-1]
    known = final.file.digests
    if known.keys() >= set(algorithms):
        digests = Digests(known.get("md5"), algorithm, known[algorithm])
        return Skipped(digests, "computed when the data came in")
    if final.file.url:
        found = _object_digests(session, final.file, algorithms)
    else:
        found = file_digests(path_of(session, final.file), algorithms, session.stop, session.board.hashing)
    return Done(Digests(found.get("md5"), algorithm, found[algorithm]))


def algorithms_of(settings: Settings, image: Image) -> list[str]:
    """Return the distinct algorithms of the image's digests; that of ``os_hash_value`` is the last."""
    imports = settings.imports
    # An image that has data keeps its algorithm.
    algorithm = image.os_hash_algo or imports.hashing_algorithm
    md5 = imports.md5_checksum or bool(image.checksum)
    return [*(["md5"] if md5 and algorithm != "md5" else []), algorithm]


def file_digests(
    path: Path, algorithms: list[str], stop: StopToken, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Return digests of a file by algorithm; each has its own thread, and only the first read misses the page cache.

    Args:
        progress: called a few times a second with the bytes that all algorithms have processed, and the file's size.

    Raises:
        StagingBroken: the file cannot be read.
        LockLost, ImportStopped: the reason of ``stop``.
    """
    done = dict.fromkeys(algorithms, 0)
    paced = ThrottledProgress(progress)

    def advance(algorithm: str, done_bytes: int, size: int) -> None:
        done[algorithm] = done_bytes
        paced(min(done.values()), size)

    with ThreadPoolExecutor(len(algorithms), thread_name_prefix="digest") as threads:
        futures = {name: threads.submit(_digest, path, name, stop, partial(advance, name)) for name in algorithms}
        return {name: future.result() for name, future in futures.items()}


def _object_digests(session: ImportSession, file: SealedFile, algorithms: list[str]) -> dict[str, str]:
    """Return digests of a store's object by algorithm; each piece is read once, and hashed by all at the same time."""
    running = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    progress, done = ThrottledProgress(session.board.hashing), 0
    with (
        using_store(file.store, session.settings, session.catalog) as driver,
        ThreadPoolExecutor(len(running), thread_name_prefix="digest") as threads,
    ):
        for piece in driver.read(file.url):
            session.stop.check()
            deque(threads.map(lambda each, piece=piece: each.update(piece), running.values()), maxlen=0)
            done += len(piece)
            progress(done, file.size)
    if done != file.size:
        raise StoredDiffers(file.store, f"{file.size} bytes", f"{done} bytes")
    return {name: each.hexdigest() for name, each in running.items()}


def _digest(path: Path, algorithm: str, stop: StopToken, advance: Callable[[int, int], None]) -> str:
    # API clients verify md5; it is not used for security.
    running, done = hashlib.new(algorithm, usedforsecurity=False), 0
    try:
        size = path.stat().st_size
        advance(0, size)
        for piece in _pieces(path):
            stop.check()
            running.update(piece)
            done += len(piece)
            advance(done, size)
    except OSError as error:
        raise staging_error(error, 0) from error
    return running.hexdigest()


def _pieces(path: Path) -> Iterator[memoryview | bytes]:
    with path.open("rb", buffering=0) as stream:
        yield from read_pieces(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
