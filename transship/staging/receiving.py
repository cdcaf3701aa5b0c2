"""Receives an upload in staging piece by piece, and writes, hashes and limits it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.catalog.engine import Catalog
from transship.catalog.journal import reserve_staged
from transship.catalog.uploads import Upload, drop_scrap, is_scrap
from transship.domain.errors import BadRequest, ImageTooLarge, ProjectOverQuota, StagingFull, human_size
from transship.domain.quota import Claim
from transship.domain.staged import LITTLE_AHEAD_BYTES
from transship.host.sparse_writing import write_sparsely
from transship.host.staging_faults import staging_error
from transship.host.write_back import start_write_back
from transship.staging.area import StagingArea

if TYPE_CHECKING:
    from hashlib import _Hash

PIECE_BYTES: Final = 1024 * 1024
"""Best size of the pieces for `Reception.write`."""

WRITE_BACK_BYTES: Final = 8 * PIECE_BYTES
"""Bytes after which the kernel is asked to start write-back, which keeps the final fsync short."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of an upload.

    Attributes:
        declared_bytes: size that the caller announced; None when it did not.
        cap_bytes: largest image accepted.
        reserve_step_bytes: room reserved at a time while the size is unknown.
    """

    declared_bytes: int | None
    cap_bytes: int
    reserve_step_bytes: int

    def check(self, size_bytes: int) -> None:
        """Refuse data that have grown too long.

        Raises:
            ImageTooLarge: longer than the site accepts.
            BadRequest: longer than announced.
        """
        if size_bytes > self.cap_bytes:
            raise ImageTooLarge("upload", size_bytes, self.cap_bytes, "imports.image_size_cap_bytes")
        if self.declared_bytes is not None and size_bytes > self.declared_bytes:
            raise BadRequest(f"The data are longer than the {human_size(self.declared_bytes)} that were announced.")

    def check_end(self, size_bytes: int) -> None:
        """Refuse data that ended too early.

        Raises:
            BadRequest: shorter than announced.
        """
        if self.declared_bytes is not None and size_bytes != self.declared_bytes:
            raise BadRequest(f"{size_bytes} bytes of data came where {self.declared_bytes} were announced.")


@dataclass(frozen=True, slots=True)
class Received:
    """A complete upload.

    Attributes:
        size: bytes.
        digests: lower-case hex by algorithm; None if none were requested.
    """

    size: int
    digests: dict[str, str] | None


class Reception:
    """The growing file of one upload. Its methods may be called from any thread, one at a time.

    Args:
        upload: begun in the catalogue; its journal row exists.
        bounds: limits of the data.
        algorithms: returns the digests to compute, given the first bytes of the data.
        claim: returns what data of a size use of their project's quota; None: there is no quota.
    """

    def __init__(
        self,
        catalog: Catalog,
        area: StagingArea,
        upload: Upload,
        bounds: Bounds,
        algorithms: Callable[[bytes], Sequence[str]],
        claim: Callable[[int], Claim] | None = None,
    ) -> None:
        self._catalog, self._area, self._upload, self._bounds = catalog, area, upload, bounds
        self._algorithms, self._claim = algorithms, claim
        self._hashes: dict[str, _Hash] | None = None
        self._open = ExitStack()
        self._descriptor = -1
        self._reserved_bytes = 0
        self._written_back = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="upload-digest")
        self.size_bytes = 0

    def open(self) -> None:
        """Create the file, and reserve room for the announced size.

        Raises:
            ImageTooLarge, StagingFull, StagingBroken: there is no file, or an empty one.
            LockLost: the image was deleted or taken over.
        """
        self._bounds.check(self._bounds.declared_bytes or 0)
        with self._lock:
            path = self._open.enter_context(self._area.writing(self._upload.name))
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise staging_error(error, 0) from error
            self._open.callback(os.close, self._descriptor)
            if self._bounds.declared_bytes:
                self._reserve(self._bounds.declared_bytes)

    def write(self, piece: bytes) -> None:
        """Append a piece; runs of zeros become holes.

        Raises:
            ImageTooLarge, BadRequest: the data are too long.
            ProjectOverQuota: the project may not use that much.
            StagingFull, StagingBroken: staging cannot hold them.
            LockLost: the image was deleted or taken over.
        """
        with self._lock:
            end = self.size_bytes + len(piece)
            self._bounds.check(end)
            if end > self._reserved_bytes:
                self._reserve_generously(end)
            if self._hashes is None:
                # Older clients verify md5; it is not used for security.
                names = self._algorithms(piece)
                self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
            hashing = [self._threads.submit(running.update, piece) for running in self._hashes.values()]
            try:
                self._append(piece)
            except OSError as error:
                raise staging_error(error, end) from error
            finally:
                wait(hashing)
            self.size_bytes = end

    def finish(self) -> Received:
        """Sync the file to disk and seal it; from then on it is only read.

        Raises:
            BadRequest: the data are shorter than announced.
            StagingFull, StagingBroken: they cannot be made durable.
        """
        with self._lock:
            self._bounds.check_end(self.size_bytes)
            hashes = self._hashes
            if hashes is None:
                hashes = {name: hashlib.new(name, usedforsecurity=False) for name in self._algorithms(b"")}
            try:
                os.ftruncate(self._descriptor, self.size_bytes)
                os.fsync(self._descriptor)
            except OSError as error:
                raise staging_error(error, self.size_bytes) from error
            self._close()
            self._area.seal(self._upload.name)
            self._area.sync()
        return Received(self.size_bytes, {name: done.hexdigest() for name, done in hashes.items()} or None)

    def discard(self) -> None:
        """Remove the file if it is scrap or has no journal row; keep data that wait for an import.

        Raises:
            StagingBroken: it cannot be removed; the row stays for housekeeping.
            CatalogUnavailable: the file stays for housekeeping.
        """
        with self._lock:
            self._close()
            with self._catalog.statement() as connection:
                if not is_scrap(connection, self._upload.name, self._area.host):
                    return
            self._area.remove(self._upload.name)
            with self._catalog.statement() as connection:
                drop_scrap(connection, self._upload.name, self._area.host)

    def close(self) -> None:
        """Close the file without changing it."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._open.close()
        self._threads.shutdown()

    def _append(self, piece: bytes) -> None:
        write_sparsely(self._descriptor, piece, self.size_bytes)
        end = self.size_bytes + len(piece)
        if end - self._written_back >= WRITE_BACK_BYTES:
            start_write_back(self._descriptor, self._written_back, end - self._written_back)
            self._written_back = end

    def _reserve_generously(self, size_bytes: int) -> None:
        much = () if self._claim else (self._bounds.reserve_step_bytes,)
        for ahead_bytes in (*much, LITTLE_AHEAD_BYTES):
            try:
                self._reserve(size_bytes + ahead_bytes)
            except (StagingFull, ProjectOverQuota):
                continue
            return
        self._reserve(size_bytes)

    def _reserve(self, size_bytes: int) -> None:
        wanted = min(size_bytes, self._bounds.cap_bytes)
        reserve_staged(
            self._catalog,
            self._upload.lease,
            self._upload.name,
            self._area.host,
            wanted,
            occupied=self._area.occupied,
            available_bytes=self._area.available_bytes(),
            claim=self._claim(wanted) if self._claim else None,
        )
        self._reserved_bytes = wanted
