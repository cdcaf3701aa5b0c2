"""A multipart upload: the parts of a staged file or of another object, made in parallel unless they are there already.

The parts go to the object's final key, where nothing is visible before the upload is completed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from transship.domain.errors import StoreUnavailable
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.sparse_reading import next_data, read_pieces
from transship.host.staging_faults import staging_error
from transship.stores.s3.body import Abandoned, PartBody, Piece
from transship.stores.s3.bucket import Bucket, SentPart

MIB: Final = 1024 * 1024

MOST_PARTS: Final = 10_000
"""Source: Amazon S3 user guide, "Multipart upload limits"; radosgw has the same limit."""

STOP_EVERY_S: Final = 0.2
"""Seconds between looks at the stop token while parts are sent."""

LEAVE_AFTER_S: Final = 3.0
"""Seconds to wait for requests under way when an upload ends early; a service that hangs delays nothing longer."""


@dataclass(frozen=True, slots=True)
class Part:
    """A range of the image; ``number`` begins at 1."""

    number: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.end - self.start


def plan(size: int, part_bytes: int) -> list[Part]:
    """Divide an image into at most 10,000 parts of ``part_bytes`` or, if those are too many, of more whole MiB.

    An empty image has one empty part.
    """
    least = -(-size // MOST_PARTS)
    each = part_bytes if part_bytes >= least else -(-least // MIB) * MIB
    starts = range(0, size, each) or (0,)
    return [Part(number, start, min(start + each, size)) for number, start in enumerate(starts, 1)]


def etag_of(parts: Sequence[SentPart]) -> str:
    """Return the ETag that an object of these parts gets: the MD5 of their MD5s, a dash and their number."""
    together = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(together, usedforsecurity=False).hexdigest()}-{len(parts)}"


class PartMaker(ABC):
    """Makes the parts of one upload.

    Args:
        bucket: of the upload; waits until the stop token ends the work.
        key, upload: the upload.
        progress: called with the bytes that the service has, or has been sent.
        stop: ends the work.
    """

    def __init__(self, bucket: Bucket, key: str, upload: str, progress: ThrottledProgress, stop: StopToken) -> None:
        self._bucket, self._key, self._upload = bucket, key, upload
        self._progress, self._stop = progress, stop
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}
        self._total, self._most = 0, 0

    def make(self, parts: Sequence[Part], there: Mapping[int, SentPart], in_flight: int) -> list[SentPart]:
        """Make all parts that are not there; return all of them, in order.

        Args:
            there: parts that the upload has, by number.
            in_flight: parts that are made at the same time.

        Raises:
            UploadGone: the service does not know the upload.
            TransferFailed, LockLost: from the service, the source or the stop token.
        """
        threads = ThreadPoolExecutor(min(in_flight, len(parts)), thread_name_prefix="s3-part")
        made = [threads.submit(self._one, part, there.get(part.number)) for part in parts]
        try:
            self._wait_for(made)
            return [each.result() for each in made]
        finally:
            self._ended.set()
            threads.shutdown(wait=False, cancel_futures=True)
            wait(made, LEAVE_AFTER_S)

    def _wait_for(self, made: Sequence[Future[SentPart]]) -> None:
        pending = set(made)
        while pending:
            done, pending = wait(pending, STOP_EVERY_S, FIRST_EXCEPTION)
            if self._stop.stopped:
                self._stop.check()
            for each in done:
                each.result()

    @abstractmethod
    def _one(self, part: Part, there: SentPart | None) -> SentPart:
        """Make one part, unless it is there."""

    def _advance(self, part: Part, made: int) -> None:
        with self._lock:
            self._total += made - self._done.get(part.number, 0)
            self._done[part.number] = made
            self._most = max(self._most, self._total)  # a part that is sent again begins at 0
            self._progress(self._most)


MakesParts = Callable[[Bucket, str, str, ThrottledProgress, StopToken], PartMaker]
"""Returns what makes the parts of an upload: the arguments are those of `PartMaker`."""


class PartSender(PartMaker):
    """Sends the parts of a staged file, unless they are there with the same bytes.

    Args:
        source: descriptor of the staged file.
        staged: its size and rate.
    """

    def __init__(
        self,
        source: int,
        staged: StagedFile,
        bucket: Bucket,
        key: str,
        upload: str,
        progress: ThrottledProgress,
        stop: StopToken,
    ) -> None:
        super().__init__(bucket, key, upload, progress, stop)
        self._source, self._staged = source, staged

    def _one(self, part: Part, there: SentPart | None) -> SentPart:
        with self._own_descriptor() as source:
            md5 = self._md5(source, part)
            if there is not None and (there.size, there.etag) == (part.size, md5.hex()):
                self._advance(part, part.size)
                return there

            def body() -> PartBody:
                return PartBody(lambda: self._pieces(source, part), self._staged.pace)

            sent = self._bucket.send(self._key, self._upload, part.number, part.size, md5, body)
        if sent.etag != md5.hex() and not sent.encrypted:
            reason = f"the service stored other data than it was sent in part {part.number}"
            raise StoreUnavailable(self._bucket.store, reason)
        return sent

    @contextmanager
    def _own_descriptor(self) -> Iterator[int]:
        """Provide a descriptor that stays open when the upload ends before this thread notices."""
        if self._ended.is_set():
            raise Abandoned
        source = os.dup(self._source)
        try:
            yield source
        finally:
            os.close(source)

    def _md5(self, source: int, part: Part) -> bytes:
        with _staging_faults():
            if next_data(source, part.start, part.end) == part.end:
                return _md5_of_zeros(part.size)
        running = hashlib.md5(usedforsecurity=False)
        for piece in self._checked(source, part):
            running.update(piece)
        return running.digest()

    def _pieces(self, source: int, part: Part) -> Iterator[Piece]:
        """Yield the bytes of a part, and report how many are sent."""
        sent = 0
        for piece in self._checked(source, part):
            yield piece
            sent += len(piece)
            self._advance(part, sent)

    def _checked(self, source: int, part: Part) -> Iterator[Piece]:
        """Yield the bytes of a part as long as they are needed."""
        with _staging_faults():
            for piece in read_pieces(source, part.start, part.end):
                if self._ended.is_set():
                    raise Abandoned
                self._stop.check()
                yield piece


@contextmanager
def _staging_faults() -> Iterator[None]:
    """Translate the operating system's errors about the staged file; urllib3 would take them for the connection's."""
    try:
        yield
    except OSError as error:
        raise staging_error(error, 0) from error


@cache
def _md5_of_zeros(size: int) -> bytes:
    running = hashlib.md5(usedforsecurity=False)
    for start in range(0, size, MIB):
        running.update(bytes(min(MIB, size - start)))
    return running.digest()
