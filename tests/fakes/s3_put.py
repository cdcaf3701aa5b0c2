"""A put in a process of its own, to be killed: ``python -m tests.fakes.s3_put SETTINGS IMAGE FILE EPOCH TOKEN HOLD``.

SETTINGS is the text of the store's settings. The token is saved in the file TOKEN. After HOLD bytes the process waits.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.base import Unfinished
from transship.stores.documents import settings_from
from transship.stores.pool import DRIVERS


def put(text: str, image_id: str, file: Path, epoch: int, token: Path, hold_bytes: int) -> None:
    """Put a file until so many bytes have moved, then wait to be killed."""
    moved = 0

    def pace(count: int) -> None:
        nonlocal moved
        moved += count
        if moved > hold_bytes:
            threading.Event().wait()

    staged = StagedFile(file, file.stat().st_size, epoch, pace=pace)
    unfinished = Unfinished(None, lambda kept: token.write_text(kept) and None)
    with DRIVERS.using("shelf", settings_from(text), "catalogue") as store:
        store.put(image_id, staged, lambda _done: None, StopToken(), unfinished)


if __name__ == "__main__":
    put(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), int(sys.argv[6]))
