"""The staging directory: names, room, locks, sealing. The journal records its contents.

A file is called ``<image id>.<epoch>.<role>.part`` while it is written, and loses the suffix when it is
sealed. A part that is downloaded in ranges has a ``.part.ranges`` file next to it. Callers must only delete
files named in journal rows.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self
from uuid import uuid4

import structlog

from config.settings import Settings
from transship.catalog.restores import Count
from transship.domain.errors import ConfigurationRefused, StagingBroken, StagingUnavailable
from transship.host.directories import MARK, make_directory, mark_directory, read_mark, sync_directory
from transship.host.staging_faults import staging_error
from transship.sources.ranges import SUFFIX as RANGES

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
CONNECTIONS = ".transship-connections"
COUNT = ".transship-count"
PART = ".part"

log = structlog.get_logger("transship.staging")


@dataclass(frozen=True, slots=True)
class StagingArea:
    """One host's staging directory.

    Attributes:
        directory: absolute path.
        host: name of this host in journal rows.
        free_floor_bytes: room to leave free.
    """

    directory: Path
    host: str
    free_floor_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the staging directory of this host."""
        return cls(settings.staging_dir, settings.host_name, settings.staging.free_floor_bytes)

    def prepare(self, catalog_id: str, *, before: bool = False) -> None:
        """Prepare the directory once; later, make sure that it serves this catalogue.

        An operator confirms that the directory is the right one by putting an empty mark into it.

        Args:
            before: whether it was prepared before; if so, a missing directory must not be created again.

        Raises:
            ConfigurationRefused: it cannot be written, or it serves another catalogue.
            StagingUnavailable: it was prepared before but is missing; nothing was created.
        """
        try:
            found = read_mark(self.directory)
            if found is None and before:
                raise StagingUnavailable(self.host)
            if not found:
                make_directory(self.directory, DIRECTORY_MODE)
                found = mark_directory(self.directory, catalog_id, FILE_MODE)
        except OSError as error:
            # The directory is given as the source, because users see the reason.
            reason = f"cannot be used: {error.strerror}"
            raise ConfigurationRefused(str(self.directory), "staging.dir", reason) from error
        if found != catalog_id:
            reason, remedy = f"serves another catalogue ({found})", "give each catalogue its own directory"
            raise ConfigurationRefused(str(self.directory), "staging.dir", reason, remedy)

    def require(self) -> None:
        """Make sure that the directory is there and is the right one, before relying on its contents or writing to it.

        Raises:
            StagingUnavailable: it is missing, or is not marked.
            StagingBroken: it cannot be read.
        """
        try:
            found = read_mark(self.directory)
        except OSError as error:
            raise staging_error(error, 0) from error
        if not found:
            raise StagingUnavailable(self.host)

    @property
    def connections_file(self) -> Path:
        """The file through which this host's imports share their limit of connections."""
        return self.directory / CONNECTIONS

    def count(self) -> Count:
        """Return how often this directory was opened; 0 with a new id if that is not known.

        Raises:
            StagingBroken: it cannot be read.
        """
        try:
            with self._count_file() as file:
                return _parsed_count(file.read()) or Count(str(uuid4()), 0)
        except (OSError, ValueError) as error:
            log.warning("count not readable; remove the file", path=str(self.directory / COUNT), reason=str(error))
            raise StagingBroken("its count cannot be read") from error

    def write_count(self, count: Count) -> None:
        """Write how often this directory was opened, unless another process has already written a higher count.

        Raises:
            StagingFull, StagingBroken: the count is unchanged.
        """
        try:
            with self._count_file() as file:
                earlier = _parsed_count(file.read())
                if earlier is None or (earlier.directory == count.directory and earlier.number < count.number):
                    # Overwrite with the same number of bytes, so a crash leaves either the old or the new count.
                    os.pwrite(file.fileno(), f"{count.directory} {count.number:020d}\n".encode(), 0)
        except OSError as error:
            raise staging_error(error, 0) from error

    @contextmanager
    def _count_file(self) -> Iterator[IO[str]]:
        """Open and lock the file with the count, at its beginning."""
        descriptor = os.open(self.directory / COUNT, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def names(self) -> list[str]:
        """Return the names of all staged files, partial or sealed, without the area's own files."""
        own = (MARK, CONNECTIONS, COUNT)
        found = (path.name for path in self.directory.iterdir() if path.name not in own)
        return sorted({name.removesuffix(RANGES).removesuffix(PART) for name in found})

    def part(self, name: str) -> Path:
        """Return the path of a file that is being written."""
        return self.directory / f"{name}{PART}"

    def ranges(self, name: str) -> Path:
        """Return the path of the range journal of a part."""
        return self.directory / f"{name}{PART}{RANGES}"

    def sealed(self, name: str) -> Path:
        """Return the path of a complete file."""
        return self.directory / name

    def occupied(self, name: str) -> int:
        """Return the bytes that a file occupies on disk; 0 if it does not exist."""
        for path in (self.part(name), self.sealed(name)):
            with suppress(FileNotFoundError):
                return path.stat().st_blocks * 512
        return 0

    def available_bytes(self) -> int:
        """Return the free bytes above the floor; negative if less than the floor is free."""
        room = os.statvfs(self.directory)
        return room.f_bavail * room.f_frsize - self.free_floor_bytes

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Lock a part file for writing by this process only; create it if missing.

        Raises:
            StagingBroken: another process writes it.
            StagingUnavailable: the directory is missing.
            StagingFull: there is no room for a new file.
        """
        self.require()
        path = self.part(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise staging_error(error, 0, self.directory) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
        except BlockingIOError as error:
            raise StagingBroken(f"{path.name} is being written by another process") from error
        finally:
            os.close(descriptor)

    def being_written(self, name: str) -> bool:
        """Return whether a process has locked the part file for writing."""
        try:
            descriptor = os.open(self.part(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def seal(self, name: str) -> int:
        """Give a complete file its final name and make it read-only; return its size in bytes.

        Raises:
            StagingBroken: the file is missing or cannot be renamed.
        """
        try:
            path = self.part(name)
            path.chmod(0o400)
            path.rename(self.sealed(name))
            self.ranges(name).unlink(missing_ok=True)
            return self.sealed(name).stat().st_size
        except OSError as error:
            raise staging_error(error, 0, self.directory) from error

    def sync(self) -> None:
        """Make new names durable.

        Raises:
            StagingBroken: the directory cannot be synced.
        """
        try:
            sync_directory(self.directory)
        except OSError as error:
            raise staging_error(error, 0, self.directory) from error

    def remove(self, name: str) -> None:
        """Remove a partial or sealed file and its range journal; missing files are not an error.

        Raises:
            StagingBroken: it cannot be removed.
            StagingUnavailable: the directory is missing, so the file may still exist.
        """
        self.require()
        # Remove the part first: a part without its journal would look like a contiguous beginning.
        for path in (self.part(name), self.ranges(name), self.sealed(name)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise staging_error(error, 0, self.directory) from error


def _parsed_count(text: str) -> Count | None:
    """Parse the count; None if the file is new, or was left empty by a crash."""
    if not text:
        return None
    directory, number = text.split()
    return Count(directory, int(number))
