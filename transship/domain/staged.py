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


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A sealed staged file: complete, never written again.

    Attributes:
        path: absolute path in this host's staging directory.
        size: bytes.
        epoch: lease epoch of the import that made it; names the temporaries of stores.
        stored: it is the object of another store: it may be shared, but nothing about it may be changed.
    """

    path: Path
    size: int
    epoch: int
    stored: bool = False
