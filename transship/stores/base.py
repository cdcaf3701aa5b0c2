"""The store contract. Its numbered rules are in docs/stores.md; one test suite checks them for every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from transship.domain.staged import Progress, StagedFile, StoredSource
from transship.domain.stop import StopToken
from transship.domain.verification import Verification

ASK_DOCTOR: Final = "'transship doctor' shows operators the remedy"
"""Remedy of a store that is not where it was prepared; operators see `StoreDriver.remedy` there."""

CHECK_TIMEOUT_S: Final = 3.0
"""Seconds within which a remote store must answer each request of `StoreDriver.check`."""

PROGRESS_EVERY_S: Final = 1.0
"""Minimum seconds between two progress reports of a `StoreDriver.put`; see its contract."""


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
    """One entry of a store.

    Attributes:
        name: of the entry in the store.
        url: of the object that it is, or of the one that it is a temporary of.
    """

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a driver needs to resume an unfinished put; the caller's journal keeps it.

    Attributes:
        token: saved by the last put of this copy, e.g. the id of a multipart upload; None: nothing was saved.
        keep: saves a token durably in place of the former one. Raises LockLost, and saves nothing, when another worker
            took over.
    """

    token: str | None
    keep: Callable[[str], None]


NOTHING_KEPT: Final = Unfinished(None, lambda _token: None)
"""For callers without a journal; nothing can be resumed."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much room a store has.

    Attributes:
        where: what was measured, e.g. a directory.
        free_bytes: bytes that can still be written.
    """

    where: str
    free_bytes: int


class StoreDriver(ABC):
    """Keeps image data. Drivers use neither Prefect nor the catalogue.

    A driver may be created anywhere but is used in a single process, between `open` and `close`, by several threads.
    `public_properties` and `remedy` depend only on its settings and need no `open`.

    Attributes:
        verification: what is read back of a new copy by those who use the driver.
        read_only: whether it only reads, like its kind in the settings. Then `put`, `delete`, `discard_temporaries` and
            `url_of` raise StoreDenied, and a copy is removed by forgetting its location.
    """

    verification = Verification.SAMPLE
    read_only: ClassVar[bool] = False

    def open(self) -> None:  # noqa: B027 - most kinds have nothing to open
        """Connect to the store; called once, first, in the process that uses the driver.

        Raises:
            StoreUnavailable: it does not answer; nothing is left open. May be called again.
            StoreDenied: it denies access; nothing is left open. May be called again.
        """

    def close(self) -> None:  # noqa: B027 - most kinds have nothing to close
        """Release everything that `open` acquired; called once, last, when the driver is unused. Raises nothing."""

    def public_properties(self) -> Mapping[str, object]:
        """Return the settings that ``GET /v2/info/stores/detail`` shows; never a secret."""
        return {}

    def remedy(self) -> str:
        """Return what operators can do when the store is unavailable, as a sentence without its full stop."""
        return ""

    def parts(self) -> Sequence[StoreDriver]:
        """Return the drivers of what is prepared, checked and measured by itself, e.g. each of several directories.

        The store works as long as one of them does.
        """
        return (self,)

    def room(self) -> Room | None:
        """Return how much room the store has; None if it cannot be known.

        Raises:
            StoreDenied, StoreUnavailable: the store cannot tell now.
        """
        return None

    @abstractmethod
    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Make the store ready for use and mark it as this store's; does nothing if that was done before.

        Every other method raises `StoreUnavailable` if the store was not prepared or lacks the mark, so a store whose
        data are absent (a directory that is not mounted) is never mistaken for an empty one. Kinds whose data cannot
        disappear in this way need not do anything here.

        Args:
            known: URLs of objects that the store should hold.
            before: whether it was prepared before; if so, what is missing must not be created again.

        Raises:
            StoreUnavailable: it was prepared before or should hold objects, but neither mark nor objects are there; or
                it is marked as another store's or another catalogue's. Nothing was created or written.
            StoreDenied, StoreFull: it cannot be prepared; a directory may have been created.
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

        A driver that can resume saves a token before it writes data that only the token can find. Such data may stay
        in the store after an error or a kill; the next put of the same file or `discard_temporaries` gets the token.

        Args:
            image_id: canonical UUID; becomes the object's name. Anything else is a ValueError.
            staged: sealed file; read from several threads, never written.
            progress: called with bytes done, at most once a second and at the end.
            stop: checked at least once per 16 MiB and right before the object is published.
            unfinished: saves a token, and holds the one that an earlier put of this very file saved. If what it names
                is gone, the put starts over.

        Raises:
            AlreadyStored: an object of that name exists; nothing was written.
            StoreFull: no room; the partial object has been removed.
            StoreDenied: no permission; the partial object has been removed if permitted.
            StoreUnavailable: the store did not answer; safe to try again.
            LockLost: another worker took over; only this epoch's temporaries were removed.
            ImportStopped: asked to stop; the partial object has been removed.
            StagingBroken: the staged file is missing or has a different size; nothing was left in the store.
        """

    def can_copy(self, source: StoredSource) -> bool:
        """Return whether `copy` can be tried. Raises nothing, and looks at no store if the kind has no such copies."""
        return False

    def copy(
        self,
        image_id: str,
        source: StoredSource,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Do the same as `put` with the object of another store, whose bytes do not pass through this machine.

        Raises:
            CopyDiffers: the store's own statement about the copy is not the source's proof; nothing was left.
            AlreadyStored, StoreFull, StoreDenied, StoreUnavailable, LockLost, ImportStopped: as in `put`.
        """
        raise NotImplementedError("can_copy returns False")

    @abstractmethod
    def size(self, url: str) -> int:
        """Return the size in bytes of a stored object.

        Raises:
            ObjectMissing: the store does not hold it, or the URL does not belong to this store.
            StoreDenied, StoreUnavailable: as in `put`.
        """

    def local_file(self, url: str) -> Path | None:
        """Return the local file that is the object and is never modified; None if there is none.

        Raises:
            ObjectMissing, StoreDenied, StoreUnavailable: as in `size`.
        """
        self.size(url)
        return None

    @abstractmethod
    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``offset``, ``length`` of them (None: to the end).

        Pieces are 64 KiB to 4 MiB long; the last one may be shorter. The first is fetched before this
        returns, so a missing object raises here.

        Raises:
            ObjectMissing, StoreDenied, StoreUnavailable: as in `size`.
        """

    @abstractmethod
    def delete(self, url: str) -> None:
        """Remove an object; a missing one is not an error.

        Raises:
            StoreDenied: also for a URL that does not belong to this store; the object is unchanged.
            StoreUnavailable: the object is unchanged.
        """

    @abstractmethod
    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Remove the temporaries of killed writers of this image with epochs below ``before_epoch``; return how many.

        Args:
            image_id: canonical UUID.
            before_epoch: of a lease.
            token: saved by a put of this image; what it names is removed too, whatever its epoch.

        A writer of such an epoch that is still alive can no longer publish.

        Raises:
            StoreDenied, StoreUnavailable: some may be left.
        """

    @abstractmethod
    def url_of(self, image_id: str) -> str:
        """Return the URL of the image's object; it may contain what `open` learned of the store.

        A store that chooses a place in `put` may give the object another URL then. It finds the object by both.
        """

    def own_url(self, url: str) -> str | None:
        """Return the URL of an object of this store as the store itself writes it; None if it names no such object.

        This looks at no object. A kind that always returns None takes no locations from clients.
        """
        return None

    @abstractmethod
    def contents(self) -> Iterator[Content]:
        """Yield all entries of the store in any order: objects, temporaries, and entries that are not ours.

        Entries that appear or disappear meanwhile may be left out.

        Raises:
            StoreDenied, StoreUnavailable: not everything was yielded.
        """

    @abstractmethod
    def check(self) -> None:
        """Make sure that the store can be written now; takes at most a second and leaves nothing behind.

        Raises:
            StoreDenied, StoreUnavailable, StoreFull: why it cannot.
        """
