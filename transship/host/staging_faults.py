"""Translates the operating system's errors about staged files into our errors, which name no paths."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from transship.domain.errors import StagingBroken, StagingFull

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def free_bytes(directory: Path) -> int:
    """Return the free bytes on the file system of ``directory``; 0 if they cannot be read."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def staging_error(error: OSError, needed_bytes: int, directory: Path | None = None) -> StagingFull | StagingBroken:
    """Translate an operating-system error in staging.

    Args:
        error: what was raised.
        needed_bytes: intended size of the file, for the message.
        directory: where it happened; None: the free room is unknown.
    """
    if error.errno in _NO_ROOM:
        return StagingFull(needed_bytes, 0 if directory is None else free_bytes(directory))
    return StagingBroken(error.strerror or str(error) or type(error).__name__)


@contextmanager
def staging_faults(path: Path) -> Iterator[None]:
    """Translate operating-system errors of the block into our errors.

    Args:
        path: file that is read or written.

    Raises:
        StagingFull: no room, or a file-system quota is used up.
        StagingBroken: any other error of the operating system.
    """
    try:
        yield
    except OSError as error:
        raise staging_error(error, 0, path.parent) from error
