"""What the drivers of all kinds share: checking names, opening the staged file, handing on pieces."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import structlog

from transship.domain.errors import StagingBroken
from transship.domain.staged import StagedFile

log = structlog.get_logger("transship.stores")


def require_canonical(image_id: str) -> None:
    """Raise ValueError for an image id that cannot name an object."""
    if str(UUID(image_id)) != image_id:
        raise ValueError(f"{image_id!r} is not a canonical UUID")


@contextmanager
def opened_staged(staged: StagedFile) -> Iterator[int]:
    """Open a sealed staged file for reading and verify its size.

    Raises:
        StagingBroken: it is missing, is not a file, or has a different size.
    """
    try:
        descriptor = os.open(staged.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise staged_broken(staged.path, error.strerror or str(error)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != staged.size:
            raise staged_broken(staged.path, f"a file has {status.st_size} bytes where {staged.size} were staged")
        yield descriptor
    finally:
        os.close(descriptor)


def staged_broken(path: Path, reason: str) -> StagingBroken:
    """Return the error for users, and log the path for operators."""
    log.warning("staged file not usable", reason=reason, path=str(path))
    return StagingBroken(reason)


def rejoined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a piece that was taken from an iterator early, then the others."""
    if first:
        yield first
    yield from rest
