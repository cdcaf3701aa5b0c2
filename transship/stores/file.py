"""The file store: one file per image in a directory, named by the image id.

A file is written under a temporary name that contains the lease epoch, and gets its final name by
``link``, which never replaces a file. If staging is on the same filesystem, the staged inode itself
becomes the stored file, and no bytes are copied.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from transship.domain.errors import (
    AlreadyStored,
    ObjectMissing,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TransferFailed,
)
from transship.domain.staged import Progress, StagedFile
from transship.domain.stop import StopToken
from transship.domain.throttle import ThrottledProgress
from transship.host.directories import MARK, make_directory, mark_directory, read_mark, sync_directory
from transship.host.sparse_reading import FileEnded
from transship.stores.base import (
    NOTHING_KEPT,
    PROGRESS_EVERY_S,
    Content,
    Room,
    StoredObject,
    StoreDriver,
    Unfinished,
)
from transship.stores.copying import PIECE_BYTES, copy_extents, reflink
from transship.stores.mark import Mark
from transship.stores.staged_source import opened_staged, rejoined, require_canonical, staged_broken

READ_BYTES: Final = 1024 * 1024
"""Size of the pieces that `FileStore.read` yields."""

DIRECTORY_MODE: Final = 0o750
"""Lets the group read, e.g. Nova."""

MARK_MODE: Final = 0o640

_ENTER: Final = ((0o070, 0o010), (0o007, 0o001))
"""Bits of a file's mode for group and others, and the bit of its directory that lets them reach it."""

NOT_PREPARED: Final = "its directory is not mounted or was never prepared"

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
_NO_LINK: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}
)
"""Errors of ``link`` after which the bytes are copied instead."""

_PART_SUFFIX: Final = ".part"
_PART: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9]+\.part")
_KEPT_BY_NFS: Final = re.compile(r"\.nfs[0-9a-f]{8,}")
"""Names that an NFS client gives to removed files that are still open; it removes them itself."""

CHECK_NAMES: Final = (".check", ".check.link")
_OWN_NAMES: Final = frozenset({MARK, *CHECK_NAMES})

log = structlog.get_logger("transship.stores")

_LINKING: Final = threading.Lock()
"""Held while a staged inode is linked and its mode set, so two stores cannot set different modes on one inode."""


class FileStore(StoreDriver):
    """Keep images in a directory, as Glance's filesystem store does.

    Args:
        store_id: id of the store, for messages.
        directory: absolute. Its path becomes part of each location URL, exactly as written here.
        file_mode: permission bits of stored files, e.g. ``0o640``.
        catalog_id: id of the catalogue that the store belongs to; the directory is marked with both ids. Empty: a
            store without a catalogue, whose directory is not marked and is created by `prepare` or `check`.

    Raises:
        ValueError: the directory is not absolute.
    """

    def __init__(self, store_id: str, directory: Path, file_mode: int, catalog_id: str = "") -> None:
        if not directory.is_absolute():
            raise ValueError(f"store {store_id}: {directory} is not an absolute path")
        self._store_id = store_id
        self._directory = directory
        self._file_mode = file_mode
        self._url_prefix = f"file://{directory}/"
        self._mark = Mark(store_id, catalog_id, "directory", NOT_PREPARED)

    def public_properties(self) -> Mapping[str, object]:
        """Return what Glance shows of such a store."""
        return {"data_dir": str(self._directory), "chunk_size": PIECE_BYTES, "thin_provisioning": True}

    def remedy(self) -> str:
        """Say how to restore the directory, or to start with an empty one."""
        return (
            f"Mount {self._directory} and run 'transship deploy'; to start with an empty store there,"
            f" put an empty file {MARK} into it first"
        )

    def is_available(self) -> bool:
        """Return whether the directory is where it was prepared."""
        try:
            with self._faults():
                self._require_prepared()
        except TransferFailed:
            return False
        return True

    def names(self, url: str) -> bool:
        """Return whether a URL has the form of this directory's objects."""
        return self._owns(url)

    def holds(self, image_id: str) -> bool:
        """Return whether something in the directory has the image's name."""
        return os.path.lexists(self._directory / image_id)

    def room(self) -> Room:
        """Return the room on the directory's filesystem."""
        with self._faults():
            return Room(str(self._directory), shutil.disk_usage(self._directory).free)

    def prepare(self, known: Iterable[str], *, before: bool) -> None:
        """Create the directory and mark it; see `StoreDriver.prepare`.

        An operator confirms that the directory is the right one by putting an empty mark into it.
        """
        with self._faults(needed_bytes=1):
            found = read_mark(self._directory)
            if found is None and (before or self._lacks(known)):
                raise self._mark.missing()
            if not found:
                make_directory(self._directory, DIRECTORY_MODE)
                self._let_readers_in()
                sync_directory(self._directory.parent)
            if self._mark.text:
                self._mark.require(found or mark_directory(self._directory, self._mark.text, MARK_MODE))

    def _let_readers_in(self) -> None:
        """Let those who may use the files enter the directory, as Glance does; a refusal is logged alone."""
        mode = stat.S_IMODE(self._directory.stat().st_mode)
        wanted = mode | sum(bit for bits, bit in _ENTER if self._file_mode & bits)
        if wanted != mode:
            try:
                self._directory.chmod(wanted)
            except OSError as error:
                log.warning("mode of the directory not changed", store=self._store_id, reason=str(error))

    def put(
        self,
        image_id: str,
        staged: StagedFile,
        progress: Progress,
        stop: StopToken,
        unfinished: Unfinished = NOTHING_KEPT,
    ) -> StoredObject:
        """Link or copy the staged file into the directory; see `StoreDriver.put`.

        Raises:
            ValueError: ``image_id`` is not a canonical UUID.
        """
        require_canonical(image_id)
        stop.check()
        paced = ThrottledProgress(lambda done, _size: progress(done), PROGRESS_EVERY_S)
        part = self._part(image_id, staged.epoch)
        final = self._directory / image_id
        with opened_staged(staged) as source, self._faults(staged.size):
            self._require_prepared()
            if os.path.lexists(final):
                raise AlreadyStored(self._store_id, image_id)
            # Left by an attempt under this very lease. It may be a link to the staged inode: never open it for writing.
            part.unlink(missing_ok=True)
            try:
                proof = self._fill(part, source, staged, paced, stop)
                stop.check()
                self._publish(part, final)
            finally:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
        paced.end(staged.size)
        return StoredObject(self.url_of(image_id), staged.size, proof)

    def size(self, url: str) -> int:
        """Return the size of a stored file; see `StoreDriver.size`."""
        path = self._path_of(url)
        with self._faults():
            self._require_prepared()
            try:
                status = os.lstat(path)
            except OSError as error:
                raise self._not_read(url, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise ObjectMissing(self._store_id, url)
        return status.st_size

    def local_file(self, url: str) -> Path | None:
        """Return the stored file itself; see `StoreDriver.local_file`."""
        self.size(url)
        return self._path_of(url)

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a stored file's bytes in pieces of at most 1 MiB; see `StoreDriver.read`."""
        pieces = self._pieces(url, offset, length)
        return rejoined(next(pieces, b""), pieces)

    def delete(self, url: str) -> None:
        """Remove a stored file; see `StoreDriver.delete`.

        Raises:
            StoreDenied: also for a URL that does not belong to this store; nothing was changed.
        """
        if not self._owns(url):
            log.warning("not a file of the store", store=self._store_id, url=url, directory=str(self._directory))
            raise StoreDenied(self._store_id, "the location does not name a file of the store")
        path = self._directory / url.removeprefix(self._url_prefix)
        with self._faults():
            self._require_prepared()
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    log.warning("not a regular file", store=self._store_id, path=str(path))
                    raise StoreDenied(self._store_id, f"{path.name} is not a regular file")
                path.unlink()
            self._require_prepared()  # it may have gone since the look before
            sync_directory(self._directory)

    def discard_temporaries(self, image_id: str, before_epoch: int, token: str | None = None) -> int:
        """Remove partial files of older epochs; see `StoreDriver.discard_temporaries`."""
        require_canonical(image_id)
        pattern = re.compile(rf"{image_id}\.([0-9]+)\{_PART_SUFFIX}")
        with self._faults():
            self._require_prepared()
            found = [match for name in os.listdir(self._directory) if (match := pattern.fullmatch(name))]
            stale = [match.string for match in found if int(match[1]) < before_epoch]
            for name in stale:
                (self._directory / name).unlink(missing_ok=True)
            if stale:
                sync_directory(self._directory)
        return len(stale)

    def url_of(self, image_id: str) -> str:
        """Return ``file://<directory>/<image_id>``, not percent-encoded, as Glance writes it."""
        return self._url_prefix + image_id

    def own_url(self, url: str) -> str | None:
        """Return the URL if it names a file of the directory; see `StoreDriver.own_url`."""
        return url if self._owns(url) else None

    def contents(self) -> Iterator[Content]:
        """Yield every name in the directory; see `StoreDriver.contents`."""
        with self._faults():
            self._require_prepared()
            names = os.listdir(self._directory)
        for name in names:
            if name not in _OWN_NAMES and not _KEPT_BY_NFS.fullmatch(name):
                temporary = _PART.fullmatch(name)
                yield Content(name, self._url_prefix + (temporary[1] if temporary else name))

    def check(self) -> None:
        """Write, link and remove a small file; see `StoreDriver.check`."""
        if not self._mark.text:
            self.prepare((), before=False)
        with self._faults(needed_bytes=1):
            self._require_prepared()
            room = os.statvfs(self._directory)
            if room.f_blocks and not room.f_bavail:
                raise StoreFull(self._store_id, 1)
            try:
                self._try_names()
            finally:
                for name in CHECK_NAMES:
                    (self._directory / name).unlink(missing_ok=True)

    def _try_names(self) -> None:
        """Create a file and link it. The names are fixed, so the next check removes what a killed one left."""
        first, second = (self._directory / name for name in CHECK_NAMES)
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\0")
            # Another check may be running; its result is just as good.
            with suppress(FileExistsError, FileNotFoundError):
                os.link(first, second, follow_symlinks=False)
        finally:
            os.close(descriptor)

    def _part(self, image_id: str, epoch: int) -> Path:
        return self._directory / f"{image_id}.{epoch}{_PART_SUFFIX}"

    def _fill(self, part: Path, source: int, staged: StagedFile, progress: ThrottledProgress, stop: StopToken) -> str:
        """Write all bytes durably to the temporary, with the store's mode; return the method used."""
        if self._link(staged, source, part):
            os.fsync(source)
            return "link"

        def step(done: int) -> None:
            stop.check()
            progress(done)

        target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            shared = reflink(source, target, staged.size)
            if not shared:
                copy_extents(source, target, staged.size, step, staged.pace)
            os.fchmod(target, self._file_mode)
            os.fsync(target)
        except FileEnded as error:
            raise staged_broken(staged.path, error.reason) from error
        finally:
            os.close(target)
        return "reflink" if shared else "copy"

    def _link(self, staged: StagedFile, source: int, part: Path) -> bool:
        """Give the staged inode the temporary name and the store's mode; return False if that is not possible."""
        with _LINKING:
            status = os.fstat(source)
            theirs = staged.stored or status.st_nlink > 1
            if theirs and stat.S_IMODE(status.st_mode) != self._file_mode:
                return False  # already another store's object, whose mode must not change
            try:
                os.link(staged.path, part, follow_symlinks=False)
                if not theirs:
                    os.fchmod(source, self._file_mode)
            except OSError as error:
                part.unlink(missing_ok=True)
                if error.errno in _NO_LINK:
                    return False
                raise
        return True

    def _publish(self, part: Path, final: Path) -> None:
        """Give the complete temporary its final name; an error leaves no object."""
        existed = os.path.lexists(final)
        try:
            os.link(part, final, follow_symlinks=False)
        except FileExistsError as error:
            # NFS repeats a call whose answer was lost, and then reports the name that the first one made.
            if existed or not os.path.samestat(os.lstat(part), os.lstat(final)):
                raise AlreadyStored(self._store_id, final.name) from error
        try:
            part.unlink()
            sync_directory(self._directory)
        except FileNotFoundError:
            # Only a worker that took over removes it: the object with the final name is that worker's.
            return
        except OSError:
            with suppress(OSError):
                final.unlink()
            raise

    def _pieces(self, url: str, offset: int, length: int | None) -> Iterator[bytes]:
        path = self._path_of(url)
        with self._faults():
            try:
                # Without O_NONBLOCK a FIFO of that name would block for ever.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise self._not_read(url, error) from error
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ObjectMissing(self._store_id, url)
                end = status.st_size if length is None else min(status.st_size, offset + length)
                while offset < end:
                    piece = os.pread(descriptor, min(READ_BYTES, end - offset), offset)
                    if not piece:
                        reason = f"{path.name} was cut to {offset} bytes while it was read"
                        raise StoreUnavailable(self._store_id, reason)
                    offset += len(piece)
                    yield piece
            finally:
                os.close(descriptor)

    def _owns(self, url: str) -> bool:
        name = url.removeprefix(self._url_prefix)
        plain = name != url and bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name
        return plain and not name.endswith(_PART_SUFFIX)

    def _path_of(self, url: str) -> Path:
        if not self._owns(url):
            raise ObjectMissing(self._store_id, url)
        return self._directory / url.removeprefix(self._url_prefix)

    def _not_read(self, url: str, error: OSError) -> TransferFailed:
        if error.errno in _NOT_THERE:
            self._require_prepared()  # it may have gone since the look before
            return ObjectMissing(self._store_id, url)
        return self._translated(error, 0)

    def _require_prepared(self) -> None:
        """Refuse a directory other than the prepared one: a missing file there proves nothing.

        Raises:
            StoreUnavailable: it is missing, not marked, or another's.
            OSError: the mark cannot be read.
        """
        if not self._mark.text and not self._directory.is_dir():
            raise self._mark.missing()
        self._mark.require(read_mark(self._directory))

    def _lacks(self, known: Iterable[str]) -> bool:
        """Return whether the directory should hold objects but holds none of them."""
        paths = [self._path_of(url) for url in known if self._owns(url)]
        return bool(paths) and not any(os.path.lexists(path) for path in paths)

    @contextmanager
    def _faults(self, needed_bytes: int = 0) -> Iterator[None]:
        """Translate the operating system's errors into the store's."""
        try:
            yield
        except OSError as error:
            raise self._translated(error, needed_bytes) from error

    def _translated(self, error: OSError, needed_bytes: int) -> TransferFailed:
        if error.errno in _NO_ROOM:
            return StoreFull(self._store_id, needed_bytes)
        reason = error.strerror or str(error)
        # Users see the error; the path is for operators alone.
        log.info("store not usable", store=self._store_id, reason=reason, path=error.filename or str(self._directory))
        return (StoreDenied if error.errno in _DENIED else StoreUnavailable)(self._store_id, reason)
