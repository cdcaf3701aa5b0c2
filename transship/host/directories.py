"""Our directories: made with exactly the mode that is promised, and marked, so that one that is not mounted is noticed.

A directory that has been in use is never made again: what would be written there lies below the mount point, and what
is missing there is not gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

MARK: Final = ".transship-catalogue"
"""File that says whose directory this is. No listing shows it, and no clean-up removes it."""

_LONGEST_MARK: Final = 1024


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


def read_mark(directory: Path) -> str | None:
    """Return whose a directory says that it is.

    Returns:
        None when it has no mark, or does not exist: what should be mounted there may not be. Empty when the mark is
        still to be filled: a crash or an operator left it so.

    Raises:
        OSError: the mark cannot be read.
    """
    try:
        descriptor = os.open(directory / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _LONGEST_MARK).decode("utf-8", errors="replace").strip()
    finally:
        os.close(descriptor)


def mark_directory(directory: Path, owner: str, mode: int) -> str:
    """Mark a directory as an owner's, durably, unless it is marked already; return whose it is now.

    Args:
        directory: exists.
        owner: one line.
        mode: permission bits of the mark.

    Raises:
        OSError: it cannot be marked; an empty mark may be left.
    """
    descriptor = os.open(directory / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as mark:
        # Several processes may come here first; none may read what another has not written yet.
        fcntl.flock(mark, fcntl.LOCK_EX)
        found = mark.read().strip()
        if found:
            return found
        mark.write(owner)
        mark.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    sync_directory(directory)
    return owner


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: they may not be.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
