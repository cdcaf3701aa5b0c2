"""A local file that ``transship import`` uploads."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transship.domain.errors import CommandRefused

CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file with the size that it had when it was first examined.

    Attributes:
        path: absolute.
        size: bytes.
    """

    path: Path
    size: int

    @classmethod
    def at(cls, path: Path) -> LocalFile:
        """Examine a file.

        Raises:
            CommandRefused: it cannot be read, or is not a regular file.
        """
        path = path.absolute()
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
        except IsADirectoryError as error:
            raise CommandRefused(f"{path} is a directory", "name the file of an image") from error
        except FileNotFoundError as error:
            remedy = "name a file that exists, or a whole URL, e.g. https://example.org/image.qcow2"
            raise CommandRefused(f"{path} does not exist", remedy) from error
        except OSError as error:
            remedy = "make it readable for this user"
            raise CommandRefused(f"{path} cannot be read: {error.strerror}", remedy) from error
        if not path.is_file():
            raise CommandRefused(f"{path} is not a file", "name the file of an image")
        return cls(path, size)

    def digest(self, algorithm: str) -> str:
        """Return the digest of the contents, lower-case hex; reads the whole file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
