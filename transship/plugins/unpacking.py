"""The input of all unpackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from config.settings import DecompressionSettings
from transship.domain.stop import StopToken


@dataclass(frozen=True, slots=True)
class Unpacking:
    """One archive to unpack, and where its content goes.

    Attributes:
        path: sealed staged file; read only.
        source: the same file, open for unbuffered reading, at its beginning.
        packed_bytes: its length.
        expect: called with the size of the content as soon as the archive states it; raises ImageTooLarge
            if the size exceeds the bound.
        write: called with the next piece of the content; raises ImageTooLarge or StagingFull.
        progress: called with (bytes done, total bytes), as often as is convenient.
        settings: bounds.
        stop: checked at least once per piece.
    """

    path: Path
    source: BinaryIO
    packed_bytes: int
    expect: Callable[[int], None]
    write: Callable[[bytes], None]
    progress: Callable[[int, int], None]
    settings: DecompressionSettings
    stop: StopToken


Unpacker = Callable[[Unpacking], None]
"""Raises ArchiveRefused for damaged or unsupported archives; ``write`` may have been called by then."""
