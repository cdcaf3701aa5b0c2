"""Writes files of mode 0600 atomically: readers never see part of one."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_private(path: Path, text: str) -> None:
    """Write or replace a file that only one process writes.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    _write(part, text, os.O_TRUNC)
    part.replace(path)


def create_private(path: Path, text: str) -> bool:
    """Create a file durably, unless it exists; return whether it was created.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        _write(part, text, os.O_EXCL, durable=True)
        # A hard link, unlike a rename, fails when another process was faster.
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _write(part: Path, text: str, flag: int, *, durable: bool = False) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | flag, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
