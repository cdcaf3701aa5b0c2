"""A file in staging, as tasks and stores hand it to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE_ROLE: Final = "source"
"""Role of a staged file that comes from outside; plugins' files bear the plugin's label."""

Progress = Callable[[int], None]
"""Called with the bytes done so far, from any thread; never goes back."""

Pace = Callable[[int], None]
"""Called with the bytes that are to be moved next, from any thread; returns when it is their turn."""


def unpaced(_bytes: int) -> None:
    """Let bytes go at once."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A sealed staged file: complete, never written again.

    Attributes:
        path: absolute path in this host's staging directory.
        size: bytes.
        epoch: lease epoch of the import that made it; names the temporaries of stores.
        stored: it is the object of another store: it may be shared, but nothing about it may be changed.
        pace: asked by the store before it moves bytes of the file; what it raises ends the copy.
    """

    path: Path
    size: int
    epoch: int
    stored: bool = False
    pace: Pace = unpaced
