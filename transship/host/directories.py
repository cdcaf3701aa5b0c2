"""Our directories: created with an exact mode, and marked, so a directory that is not mounted is noticed.

A directory that has been in use is never created again: if it is missing, a mount is missing, not its files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

MARK: Final = ".transship-catalogue"
"""Name of the file that says to whom the directory belongs. Listings leave it out; clean-ups keep it."""

_LONGEST_MARK: Final = 1024


def make_directory(path: Path, mode: int) -> None:
    """Create a directory and its missing parents, each with ``mode``; an existing one is not changed.

    The umask does not affect the mode. A group inherited from the parent (set-group-ID) is kept.

    Args:
        path: absolute.
        mode: permission bits, e.g. ``0o750``.

    Raises:
        OSError: the directory cannot be created, or the path is not a directory; parents may have been created.
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
    # Only if it differs: some network file systems have fixed modes and refuse the call.
    if found & ~stat.S_ISGID != mode:
        path.chmod(mode | found & stat.S_ISGID)


def read_mark(directory: Path) -> str | None:
    """Return the owner named in a directory's mark.

    Returns:
        None when it has no mark or does not exist: a mount may be missing. Empty when the mark is empty: a crash or an
        operator left it so.

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
    """Mark a directory durably as an owner's unless it is marked already; return its owner.

    Args:
        directory: exists.
        owner: one line.
        mode: permission bits of the mark.

    Raises:
        OSError: it cannot be marked; an empty mark may be left.
    """
    descriptor = os.open(directory / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as mark:
        # Several processes may get here at the same time; none may read a mark that is not written yet.
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
