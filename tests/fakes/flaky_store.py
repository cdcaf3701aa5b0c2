"""A store in memory that passes the store contract and fails when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from transship.domain.errors import AlreadyStored, ObjectMissing, StagingBroken, StoreDenied, StoreUnavailable
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.stores.base import NOTHING_KEPT, PROGRESS_EVERY_S, Content, StoredObject, StoreDriver, Unfinished

PIECE_BYTES = 1024 * 1024


class FlakyStore(StoreDriver):
    """Keep objects in memory; raise the errors of `fail` first, then work.

    Attributes:
        objects: bytes by image id.
        temporaries: unpublished bytes by (image id, epoch).
        calls: names of the methods called, in order, also of those that failed.
        away: it is not where it was prepared.
        truncate: how many bytes it loses of each object while it says that it kept them all.
        before_publishing: called by each `put` when all bytes are written and nobody can see them yet.
    """

    def __init__(self, store_id: str = "flaky") -> None:
        self.store_id = store_id
        self.objects: dict[str, bytes] = {}
        self.temporaries: dict[tuple[str, int], bytes] = {}
        self.calls: list[str] = []
        self.away = False
        self.truncate = 0
        self.before_publishing: Callable[[], object] = lambda: None
        self._failures: dict[str, list[Exception]] = {}
        self._lock = threading.Lock()

    def fail(self, error: Exception, times: int = 1, on: str = "put") -> None:
        """Make the next ``times`` calls of the method ``on`` raise ``error``, in the order told.

        A `put` fails when all bytes are written and nothing is published, and removes its temporary.
        """
        self._failures.setdefault(on, []).extend([error] * times)

    def break_down(self, error: Exception, on: str = "put") -> None:
        """Make the method ``on`` raise ``error`` until `repair`."""
        self.fail(error, 1000, on)

    def repair(self) -> None:
        """Stop raising errors."""
        with self._lock:
            self._failures.clear()

    @property
    def writes(self) -> int:
        """Number of writes, successful or not."""
        return self.calls.count("put")

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        self._begin("prepare")

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        if str(UUID(image_id)) != image_id:
            raise ValueError(image_id)
        self.calls.append("put")
        self._refuse_when_away()
        stop.check()
        if image_id in self.objects:
            raise AlreadyStored(self.store_id, image_id)
        temporary = (image_id, staged.epoch)
        paced = ThrottledProgress(lambda done, _size: progress(done), PROGRESS_EVERY_S)
        try:
            self.temporaries[temporary] = _content(staged, paced, stop)
            self._fail_if_told("put")
            self.before_publishing()
            stop.check()
            self._publish(temporary)
        finally:
            self.temporaries.pop(temporary, None)
        paced.end(staged.size)
        return StoredObject(self.url_of(image_id), staged.size, f"memory:{staged.size}")

    def size(self, url: str) -> int:
        self._begin("size")
        return len(self._object(url))

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._begin("read")
        content = self._object(url)
        end = len(content) if length is None else min(len(content), offset + length)
        return (content[start : min(end, start + PIECE_BYTES)] for start in range(offset, end, PIECE_BYTES))

    def delete(self, url: str) -> None:
        self._begin("delete")
        if not url.startswith(self._prefix):
            raise StoreDenied(self.store_id, f"{url} is not one of its objects")
        self.objects.pop(url.removeprefix(self._prefix), None)

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        self._begin("discard_temporaries")
        with self._lock:
            stale = [key for key in self.temporaries if key[0] == image_id and key[1] < before_epoch]
            for key in stale:
                del self.temporaries[key]
        return len(stale)

    def url_of(self, image_id: str) -> str:
        return self._prefix + image_id

    def own_url(self, url: str) -> str | None:
        return url if url.startswith(self._prefix) else None

    def contents(self) -> Iterator[Content]:
        self._begin("contents")
        with self._lock:
            objects = [Content(name, self._prefix + name) for name in self.objects]
            parts = [Content(f"{name}.{epoch}", self._prefix + name) for name, epoch in self.temporaries]
        return iter(objects + parts)

    def check(self) -> None:
        self._begin("check")

    @property
    def _prefix(self) -> str:
        return f"memory://{self.store_id}/"

    def _object(self, url: str) -> bytes:
        name = url.removeprefix(self._prefix)
        if name == url or name not in self.objects:
            raise ObjectMissing(self.store_id, url)
        return self.objects[name]

    def _publish(self, temporary: tuple[str, int]) -> None:
        with self._lock:
            if temporary not in self.temporaries:
                raise StoreUnavailable(self.store_id, "the temporary is gone")
            if temporary[0] in self.objects:
                raise AlreadyStored(self.store_id, temporary[0])
            whole = self.temporaries[temporary]
            self.objects[temporary[0]] = whole[: len(whole) - self.truncate]

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        self._refuse_when_away()
        self._fail_if_told(method)

    def _refuse_when_away(self) -> None:
        if self.away:
            raise StoreUnavailable(self.store_id, "it is away")

    def _fail_if_told(self, method: str) -> None:
        with self._lock:
            pending = self._failures.get(method)
            if not pending:
                return
            error = pending.pop(0)
        raise error


def _content(staged: StagedFile, progress: ThrottledProgress, stop: StopToken) -> bytes:
    content = bytearray()
    try:
        with staged.path.open("rb") as source:
            while piece := source.read(PIECE_BYTES):
                stop.check()
                content += piece
                progress(len(content))
    except OSError as error:
        raise StagingBroken(str(error)) from error
    if len(content) != staged.size:
        raise StagingBroken(f"{staged.path} holds {len(content)} bytes where {staged.size} were staged")
    return bytes(content)
