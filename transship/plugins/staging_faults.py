"""What the operating system says of staging, as errors of ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transship.domain.errors import StagingBroken, StagingFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def available_bytes(path: Path) -> int:
    """Return the room left on the file system that holds ``path``; 0 if it cannot be asked."""
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


@contextmanager
def staging_faults(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn operating-system errors of the block into errors of ours, without naming paths.

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
        if error.errno in _NO_ROOM:
            raise StagingFull(needed_bytes, available_bytes(path)) from error
        raise StagingBroken(error.strerror or type(error).__name__) from error
