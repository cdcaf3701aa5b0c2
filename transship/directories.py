"""Directories that are made with exactly the mode that is promised, whatever the umask."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def make_directory(path: Path, mode: int) -> None:
    """Make a directory, and those above it that are missing, each with ``mode``; one that exists stays as it is.

    The umask neither narrows the mode nor opens the directories above. A group that the parent hands
    down (set-group-ID) stays in force.

    Args:
        path: absolute.
        mode: permission bits, e.g. ``0o750``.

    Raises:
        OSError: the directory cannot be made, or something else lies there; those above it may have been made.
    """
    try:
        _make(path, mode)
    except FileNotFoundError:
        make_directory(path.parent, mode)
        _make(path, mode)


def _make(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode)
    except FileExistsError as error:
        if path.is_dir():
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    found = stat.S_IMODE(path.stat().st_mode)
    # Only what differs: some network file systems have modes of their own and refuse the call.
    if found & ~stat.S_ISGID != mode:
        path.chmod(mode | found & stat.S_ISGID)
