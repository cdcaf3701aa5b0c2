"""The store contract. Its numbered rules are in docs/stores.md; one suite proves them for every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken

PROGRESS_EVERY_S: Final = 1.0
"""Least time between two reports of a `StoreDriver.put`; see its contract."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store holds after a complete ``put``.

    Attributes:
        url: Glance's location URL, e.g. ``file:///srv/images/<id>``; never with credentials.
        size: bytes stored.
        proof: what the store itself says of the bytes, e.g. ``link``, ``crc32c:…``, ``etag:…``.
    """

    url: str
    size: int
    proof: str


@dataclass(frozen=True, slots=True)
class Content:
    """One thing that lies in a store.

    Attributes:
        name: as it lies there.
        url: of the object that it is, or that a writer was making of it.
    """

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a driver needs to go on with a put that did not end, kept by the caller's journal.

    Attributes:
        token: what the last put of this copy kept, e.g. the id of a multipart upload; None: nothing.
        keep: writes a token down in place of the former one; when it returns, the token outlives this process. Raises
            LockLost when another worker took over; nothing was written then.
    """

    token: str | None
    keep: Callable[[str], None]


NOTHING_KEPT: Final = Unfinished(None, lambda _token: None)
"""For a caller without a journal: nothing is resumed."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much room a store has.

    Attributes:
        where: what has it, e.g. a directory.
        free_bytes: bytes that can still be written.
    """

    where: str
    free_bytes: int


class StoreDriver(ABC):
    """A place that keeps image data. Drivers know no Prefect and no catalogue.

    A driver is made anywhere, and used in one process alone: between `open` and `close`, from several threads.
    `public_properties`, `remedy` and `url_of` say what its settings say, and need no `open`.
    """

    def open(self) -> None:  # noqa: B027 - most kinds have nothing to open
        """Connect to the store; called once, in the process that uses the driver, before anything else is.

        Raises:
            StoreUnavailable: it does not answer; nothing is left open. May be called again.
            StoreDenied: it does not let us in; the same.
        """

    def close(self) -> None:  # noqa: B027 - most kinds have nothing to close
        """Let go of everything that `open` took; called once, last, when nobody uses the driver. Raises nothing."""

    def public_properties(self) -> Mapping[str, object]:
        """Return what ``GET /v2/info/stores/detail`` shows of the store's settings: never a secret."""
        return {}

    def remedy(self) -> str:
        """Return what operators can do when the store is unavailable, as a sentence without its full stop."""
        return ""

    def room(self) -> Room | None:
        """Return how much room the store has; None where nobody can say.

        Raises:
            StoreDenied, StoreUnavailable: it does not say now.
        """
        return None

    @abstractmethod
    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Make the store ready for use once, and mark it as this store's; one that is ready is left as it is.

        Every other method raises `StoreUnavailable` for a store that was not prepared, or is not the one that was: it
        never takes what is not there now (a directory that is not mounted) for empty. A kind that cannot lose sight
        of its data in such a way has nothing to do here.

        Args:
            known: URLs of objects that the store is said to hold.
            before: whether it was prepared before, so that what is missing must not be made anew.

        Raises:
            StoreUnavailable: it was prepared before, or should hold objects, and neither is to be seen; or it is
                marked as another store's or another catalogue's. Nothing was made or written.
            StoreDenied, StoreFull: it cannot be made ready; a directory may have been made.
        """

    @abstractmethod
    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Write a sealed staged file; the object appears whole or not at all, and never replaces another.

        A driver that can resume keeps a token before it writes what only the token names. After an error or a kill
        that may stay in the store; the next put of the same file is offered the token, or `discard_temporaries` is.

        Args:
            image_id: canonical UUID; becomes the object's name. Anything else is a ValueError.
            staged: sealed file; read from several threads, never written.
            progress: called with bytes done, at most once a second and at the end.
            stop: checked at least once per 16 MiB and right before the object is published.
            unfinished: where to keep a token, and the one that an earlier put of this very file kept. What it names
                may be gone: then the put begins anew.

        Raises:
            AlreadyStored: an object of that name exists; nothing was written.
            StoreFull: no room; the partial object has been removed.
            StoreDenied: no permission; the partial object has been removed where that is allowed.
            StoreUnavailable: the store did not answer; safe to try again.
            LockLost: another worker took over; only this epoch's temporaries were removed.
            ImportStopped: asked to stop; the partial object has been removed.
            StagingBroken: the staged file is gone or has another size; nothing was left in the store.
        """

    @abstractmethod
    def size(self, url: str) -> int:
        """Return the size in bytes of a stored object.

        Raises:
            ObjectMissing: the store does not hold it, or the URL is not one of this store.
            StoreDenied, StoreUnavailable: as in `put`.
        """

    def local_file(self, url: str) -> Path | None:
        """Return the file of this host that is the object and is never written again; None where there is none.

        Raises:
            ObjectMissing, StoreDenied, StoreUnavailable: as in `size`.
        """
        self.size(url)
        return None

    @abstractmethod
    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``offset``, ``length`` of them (None: to the end).

        Pieces have 64 KiB to 4 MiB, the last one may be shorter. The first is fetched before this
        returns, so that a missing object is an error here.

        Raises:
            ObjectMissing, StoreDenied, StoreUnavailable: as in `size`.
        """

    @abstractmethod
    def delete(self, url: str) -> None:
        """Remove an object; one that is not there is no error.

        Raises:
            StoreDenied: also for a URL that is not one of this store; the object is as it was.
            StoreUnavailable: the object is as it was.
        """

    @abstractmethod
    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Remove what killed writers of this image left under epochs below ``before_epoch``; return how many.

        Args:
            image_id: canonical UUID.
            before_epoch: of a lease.
            token: that a put of this image kept; what it names is removed too, whatever its epoch.

        A writer of such an epoch that still lives publishes nothing any more.

        Raises:
            StoreDenied, StoreUnavailable: some may be left.
        """

    @abstractmethod
    def url_of(self, image_id: str) -> str:
        """Return the URL that `put` would give the image's object."""

    @abstractmethod
    def contents(self) -> Iterator[Content]:
        """Yield everything that lies in the store, in no order: objects, temporaries, and what is not ours.

        What appears or goes meanwhile may be left out.

        Raises:
            StoreDenied, StoreUnavailable: not everything was yielded.
        """

    @abstractmethod
    def check(self) -> None:
        """Make sure that the store can be written now; costs at most a second, leaves nothing behind.

        Raises:
            StoreDenied, StoreUnavailable, StoreFull: why it cannot.
        """
