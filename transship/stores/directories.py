"""File stores with several directories, as in Glance's ``filesystem_store_datadirs``.

Each directory is a `FileStore` with its own mark; one that is away does not stop the others. A new image goes to the
directory with the highest weight that has enough room; of equal weights, to the one with the most room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import FileStoreSettings
from transship.domain.errors import AlreadyStored, StoreFull, StoreUnavailable, TransferFailed
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.base import ASK_DOCTOR, NOTHING_KEPT, Content, Room, StoredObject, StoreDriver, Unfinished
from transship.stores.file import NOT_PREPARED, FileStore
from transship.stores.staged_source import require_canonical

_BLOCK_BYTES: Final = 512
"""Unit of ``st_blocks``."""


def file_store(store_id: str, settings: FileStoreSettings, catalog_id: str) -> StoreDriver:
    """Return the driver of a store of type ``file``."""
    mode = int(settings.file_mode, 8)
    if settings.dir is not None:
        return FileStore(store_id, settings.dir, mode, catalog_id)
    return DirectoriesStore(store_id, settings.weighted_directories, mode, catalog_id)


class _Directory(FileStore):
    """One of several directories.

    Attributes:
        path: of the directory.
        elsewhere: returns whether another directory holds an image.
    """

    def __init__(self, store_id: str, path: Path, file_mode: int, catalog_id: str) -> None:
        super().__init__(store_id, path, file_mode, catalog_id)
        self.path = path
        self.elsewhere: Callable[[str], bool] = lambda _image_id: False

    def discard(self, image_id: str, epoch: int) -> None:
        """Remove what an attempt under the same lease left, if the directory can be written."""
        with suppress(OSError):
            self._part(image_id, epoch).unlink(missing_ok=True)

    def _publish(self, part: Path, final: Path) -> None:
        if self.elsewhere(final.name):
            raise AlreadyStored(self._store_id, final.name)
        super()._publish(part, final)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A directory in which an image may be written, with its device and the free bytes there."""

    directory: _Directory
    weight: int
    device: int
    free_bytes: int


class DirectoriesStore(StoreDriver):
    """Keep images in several directories.

    An object is found in any of them, whichever directory its URL names: `url_of` cannot know which one `put` will
    choose, so after a crash the journal may have the URL of another one.

    Args:
        store_id: id of the store, for messages.
        directories: absolute paths and weights.
        file_mode: permission bits of stored files.
        catalog_id: as for `FileStore`.
    """

    def __init__(
        self, store_id: str, directories: Iterable[tuple[Path, int]], file_mode: int, catalog_id: str = ""
    ) -> None:
        self._store_id = store_id
        best_first = sorted(directories, key=lambda each: -each[1])
        self._weights = {_Directory(store_id, path, file_mode, catalog_id): weight for path, weight in best_first}
        self._directories = tuple(self._weights)
        for each in self._directories:
            each.elsewhere = self._others_hold(each)

    def _others_hold(self, directory: _Directory) -> Callable[[str], bool]:
        others = [each for each in self._directories if each is not directory]
        return lambda image_id: any(each.holds(image_id) for each in others)

    def parts(self) -> Sequence[StoreDriver]:
        """Return the drivers of its directories."""
        return self._directories

    def public_properties(self) -> Mapping[str, object]:
        """Return what Glance shows of such a store; the directories are separated by commas."""
        return {**self._directories[0].public_properties(), "data_dir": self._paths()}

    def remedy(self) -> str:
        """Say how to restore the directories."""
        return (
            f"Mount what is missing of {self._paths(', ')} and run 'transship deploy'; to start with an empty"
            f" directory, put an empty file {MARK} into it first"
        )

    def room(self) -> Room:
        """Return the room of all directories that are available; each filesystem counts once."""
        free = {each.device: each.free_bytes for each in self._candidates()}
        return Room(self._paths(", "), sum(free.values()))

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Prepare each directory, first those that should hold objects; see `StoreDriver.prepare`."""
        known = list(known)
        for each in sorted(self._directories, key=lambda each: not any(map(each.names, known))):
            each.prepare(known, before=before)

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Write the staged file to the best directory; see `StoreDriver.put`.

        Raises:
            ValueError: ``image_id`` is not a canonical UUID.
        """
        require_canonical(image_id)
        candidates = self._candidates()
        if any(each.holds(image_id) for each in self._directories):
            raise AlreadyStored(self._store_id, image_id)
        for each in candidates:
            each.directory.discard(image_id, staged.epoch)
        return self._best(candidates, staged).put(image_id, staged, progress, stop, unfinished)

    def size(self, url: str) -> int:
        """Return the size of a stored file; see `StoreDriver.size`."""
        directory, there = self._find(url)
        return directory.size(there)

    def local_file(self, url: str) -> Path | None:
        """Return the stored file itself; see `StoreDriver.local_file`."""
        directory, there = self._find(url)
        return directory.local_file(there)

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a stored file's bytes; see `StoreDriver.read`."""
        directory, there = self._find(url)
        return directory.read(there, offset, length)

    def delete(self, url: str) -> None:
        """Remove a stored file; see `StoreDriver.delete`."""
        directory, there = self._find(url)
        directory.delete(there)

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Remove partial files of older epochs from all directories that are available.

        A directory that is away keeps them; once it is back, they are reported as unknown files.
        """
        require_canonical(image_id)
        return sum(each.directory.discard_temporaries(image_id, before_epoch, token) for each in self._candidates())

    def url_of(self, image_id: str) -> str:
        """Return the URL in the available directory with the highest weight."""
        available = (each for each in self._directories if each.is_available())
        return next(available, self._directories[0]).url_of(image_id)

    def own_url(self, url: str) -> str | None:
        """Return the URL in the directory that holds the file; see `StoreDriver.own_url`."""
        return self._find(url)[1] if any(each.names(url) for each in self._directories) else None

    def contents(self) -> Iterator[Content]:
        """Yield every name in every directory, with its path; see `StoreDriver.contents`."""
        for each in self._directories:
            for content in each.contents():
                yield Content(str(each.path / content.name), content.url)

    def check(self) -> None:
        """Make sure that one directory can be written; `parts` are checked by themselves."""
        failures = []
        for each in self._directories:
            try:
                each.check()
            except TransferFailed as failed:
                failures.append(failed)
            else:
                return
        raise failures[0]

    def _paths(self, separator: str = ",") -> str:
        return separator.join(str(each.path) for each in self._directories)

    def _candidates(self) -> list[_Candidate]:
        """Return the available directories, best first.

        Raises:
            StoreUnavailable: none is available.
        """
        found: list[_Candidate] = []
        free: dict[int, int] = {}
        for directory, weight in self._weights.items():
            with suppress(OSError, TransferFailed):
                if directory.is_available():
                    device = os.stat(directory.path).st_dev
                    # Measured once, so that directories on one filesystem are equal.
                    free_bytes = free.setdefault(device, directory.room().free_bytes)
                    found.append(_Candidate(directory, weight, device, free_bytes))
        if not found:
            raise StoreUnavailable(self._store_id, NOT_PREPARED, ASK_DOCTOR)
        return sorted(found, key=lambda each: (-each.weight, -each.free_bytes))

    def _best(self, candidates: Sequence[_Candidate], staged: StagedFile) -> _Directory:
        """Return the directory for a staged file.

        Raises:
            StoreFull: none has enough room.
        """
        device, needed_bytes = _device_and_size(staged)
        writable = [each for each in candidates if os.access(each.directory.path, os.W_OK | os.X_OK)]
        for each in writable or candidates:
            # On its own filesystem the staged file is linked, which needs no room.
            if each.device == device or each.free_bytes >= needed_bytes:
                return each.directory
        raise StoreFull(self._store_id, needed_bytes)

    def _find(self, url: str) -> tuple[_Directory, str]:
        """Return the directory that holds an object, and the object's URL there; else the directory of its URL."""
        own = next((each for each in self._directories if each.names(url)), None)
        if own is None:
            return self._directories[0], url
        name = url.rpartition("/")[2]
        if not own.holds(name):
            for each in self._directories:
                if each.holds(name) and each.is_available():
                    return each, each.url_of(name)
        return own, url


def _device_and_size(staged: StagedFile) -> tuple[int, int]:
    """Return the device of a staged file and the bytes that its data occupy; `FileStore.put` refuses a missing file."""
    try:
        status = os.stat(staged.path)
    except OSError:
        return -1, staged.size
    return status.st_dev, min(staged.size, status.st_blocks * _BLOCK_BYTES)
