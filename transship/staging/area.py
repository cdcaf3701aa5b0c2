"""The staging directory: names, room, locks, sealing. What lies in it is the journal's to say.

A file is ``<image id>.<epoch>.<role>.part`` while it is written, and loses the suffix when it is
sealed. A part that comes in ranges has its ``.part.ranges`` beside it. Nothing here deletes a file
that its caller did not take from a journal row.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from uuid import uuid4

from transship.catalog.restores import Count
from transship.directories import make_directory
from transship.domain.errors import ConfigurationRefused, StagingBroken
from transship.sources.ranges import SUFFIX as RANGES
from transship.staging_faults import staging_error

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
MARKER = ".transship-catalogue"
CONNECTIONS = ".transship-connections"
COUNT = ".transship-count"
PART = ".part"


@dataclass(frozen=True, slots=True)
class StagingArea:
    """One host's staging directory.

    Attributes:
        directory: absolute path.
        host: name of this host in journal rows.
        free_floor_bytes: room that stays free.
    """

    directory: Path
    host: str
    free_floor_bytes: int

    def prepare(self, catalog_id: str) -> None:
        """Make the directory if it is missing, and make sure that it serves this catalogue.

        Raises:
            ConfigurationRefused: it cannot be written, or it serves another catalogue.
        """
        try:
            make_directory(self.directory, DIRECTORY_MODE)
            found = self._marked(catalog_id)
        except OSError as error:
            # The directory is the source: users read the reason.
            reason = f"cannot be used: {error.strerror}"
            raise ConfigurationRefused(str(self.directory), "staging.dir", reason) from error
        if found != catalog_id:
            reason = f"serves another catalogue ({found}); give each catalogue its own directory"
            raise ConfigurationRefused(str(self.directory), "staging.dir", reason)

    def _marked(self, catalog_id: str) -> str:
        """Return the id in the marker; in one that is new, or was left empty by a crash, ``catalog_id`` is written."""
        descriptor = os.open(self.directory / MARKER, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "a+") as marker:
            # Several processes may come here first; none may read what another has not written yet.
            fcntl.flock(marker, fcntl.LOCK_EX)
            marker.seek(0)
            found = marker.read()
            if not found:
                marker.write(catalog_id)
            return found or catalog_id

    @property
    def connections_file(self) -> Path:
        """The file by which the imports of this host keep to their limit of connections."""
        return self.directory / CONNECTIONS

    def count(self) -> Count:
        """Return how often this directory was opened: never, under an id of its own, when that is not known.

        Raises:
            StagingBroken: it cannot be read.
        """
        try:
            with self._count_file() as file:
                return _parsed_count(file.read()) or Count(str(uuid4()), 0)
        except (OSError, ValueError) as error:
            raise StagingBroken(f"{self.directory / COUNT} cannot be read ({error}); remove it") from error

    def write_count(self, count: Count) -> None:
        """Note how often this directory was opened; a count that another process has brought further stays.

        Raises:
            StagingFull, StagingBroken: the count is as it was.
        """
        try:
            with self._count_file() as file:
                earlier = _parsed_count(file.read())
                if earlier is None or (earlier.directory == count.directory and earlier.number < count.number):
                    # Always as many bytes over those before: a crash leaves either.
                    os.pwrite(file.fileno(), f"{count.directory} {count.number:020d}\n".encode(), 0)
        except OSError as error:
            raise staging_error(error, 0) from error

    @contextmanager
    def _count_file(self) -> Iterator[IO[str]]:
        """Open the file of the count at its beginning, for this process alone."""
        descriptor = os.open(self.directory / COUNT, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def names(self) -> list[str]:
        """Return the names of all files here, in whichever form, but for this area's own."""
        own = (MARKER, CONNECTIONS, COUNT)
        found = (path.name for path in self.directory.iterdir() if path.name not in own)
        return sorted({name.removesuffix(RANGES).removesuffix(PART) for name in found})

    def part(self, name: str) -> Path:
        """Return the path of a file that is being written."""
        return self.directory / f"{name}{PART}"

    def ranges(self, name: str) -> Path:
        """Return the path of the journal of a part that comes in ranges."""
        return self.directory / f"{name}{PART}{RANGES}"

    def sealed(self, name: str) -> Path:
        """Return the path of a file that is complete."""
        return self.directory / name

    def occupied(self, name: str) -> int:
        """Return the bytes that a file occupies on disk, 0 when there is none."""
        for path in (self.part(name), self.sealed(name)):
            with suppress(FileNotFoundError):
                return path.stat().st_blocks * 512
        return 0

    def available_bytes(self) -> int:
        """Return the free bytes above the floor; negative when the floor is already touched."""
        room = os.statvfs(self.directory)
        return room.f_bavail * room.f_frsize - self.free_floor_bytes

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Hold a part file for writing by this process alone; it is made if missing.

        Raises:
            StagingBroken: another process writes it.
            StagingFull: there is no room for a new file.
        """
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
        """Return whether some process holds the part file for writing."""
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
            StagingBroken: the file is gone or cannot be renamed.
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
            StagingBroken: the directory cannot be written out.
        """
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise staging_error(error, 0, self.directory) from error

    def remove(self, name: str) -> None:
        """Remove a file in either form and what lies beside it; what is gone is no error.

        Raises:
            StagingBroken: it cannot be removed.
        """
        # The part first: a part without its journal would pass for an unbroken beginning.
        for path in (self.part(name), self.ranges(name), self.sealed(name)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise staging_error(error, 0, self.directory) from error


def _parsed_count(text: str) -> Count | None:
    """Return the count of a file; None of one that is new, or was left empty by a crash."""
    if not text:
        return None
    directory, number = text.split()
    return Count(directory, int(number))
