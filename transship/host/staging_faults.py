"""What the operating system says of files in staging, as errors of ours; paths are not named."""

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
    """Return the room left on the file system that holds ``directory``; 0 if it cannot be asked."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def staging_error(error: OSError, needed_bytes: int, directory: Path | None = None) -> StagingFull | StagingBroken:
    """Return what an operating-system error in staging means.

    Args:
        error: what was raised.
        needed_bytes: how large the file was to become, for the message.
        directory: where it happened; None: nothing is known of the room there.
    """
    if error.errno in _NO_ROOM:
        return StagingFull(needed_bytes, 0 if directory is None else free_bytes(directory))
    return StagingBroken(error.strerror or str(error) or type(error).__name__)


@contextmanager
def staging_faults(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn operating-system errors of the block into errors of ours.

    Args:
        path: file that is read or written.
        needed_bytes: how large it is to become, for the message.

    Raises:
        StagingFull: no room, or a quota of the file system is used up.
        StagingBroken: anything else that the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise staging_error(error, needed_bytes, path.parent) from error
