"""A file in staging, as tasks pass it to stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE_ROLE: Final = "source"
"""Role of a staged file from outside; a plugin's files have the plugin's label."""

LITTLE_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Bytes reserved ahead for data of unknown size if there is little room, or a quota that others need too."""

Progress = Callable[[int], None]
"""Called with the bytes done so far, from any thread; the number never falls."""

Pace = Callable[[int], None]
"""Called with the size of the next bytes, from any thread; returns when they may be moved."""


def unpaced(_bytes: int) -> None:
    """Do not wait."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A sealed staged file: complete, never written again.

    Attributes:
        path: absolute path in this host's staging directory.
        size: bytes.
        epoch: lease epoch of the import that created it; part of the names of stores' temporaries.
        stored: whether it is another store's object; it may be shared, but must not be changed in any way.
        pace: called by the store before it moves bytes of the file; an exception ends the copy.
    """

    path: Path
    size: int
    epoch: int
    stored: bool = False
    pace: Pace = unpaced


@dataclass(frozen=True, slots=True)
class StoredSource:
    """An object that another store copies without this machine.

    Attributes:
        store: id of the store that holds it.
        url: its location there.
        size: bytes.
        proof: what that store said about the bytes when it had written them.
        epoch: lease epoch of the import that copies it; part of the names of stores' temporaries.
        pace: called by the store before it copies bytes; an exception ends the copy.
    """

    store: str
    url: str
    size: int
    proof: str
    epoch: int
    pace: Pace = unpaced
