"""Try a store: write a small object, read it back and delete it. No image and no journal row is involved."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID, uuid5

from transship.domain.errors import StoredDiffers
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.base import StoreDriver

TRIAL_BYTES: Final = 1024 * 1024
_EPOCH: Final = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """How long each step took, in seconds."""

    write_s: float
    read_s: float
    delete_s: float


def trial_object(catalog_id: str, store: str) -> str:
    """Return the UUID that names a store's trial object: always the same, so the next trial removes what one left."""
    return str(uuid5(UUID(catalog_id), f"trial of store {store}"))


def try_store(driver: StoreDriver, store: str, catalog_id: str, directory: Path) -> Trial:
    """Write `TRIAL_BYTES` of random data to a store, read them back and delete them.

    Args:
        catalog_id: id of the catalogue that the store belongs to.
        directory: for a file of that size; created if missing.

    Raises:
        StoredDiffers: the store returned other data.
        AlreadyStored: another trial of the store runs.
        TransferFailed: a step failed. If the store does not answer, the object or a temporary may be left: see
            `trial_object`.
    """
    name = trial_object(catalog_id, store)
    url = driver.url_of(name)
    driver.check()
    driver.discard_temporaries(name, _EPOCH + 1)
    driver.delete(url)
    data = os.urandom(TRIAL_BYTES)
    directory.mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(dir=directory) as temporary:
        file = Path(temporary, "trial")
        file.write_bytes(data)
        begun = time.monotonic()
        driver.put(name, StagedFile(file, TRIAL_BYTES, _EPOCH), lambda _done: None, StopToken())
        written = time.monotonic()
    try:
        found = b"".join(driver.read(url))
        read = time.monotonic()
    finally:
        driver.delete(url)
    if found != data:
        raise StoredDiffers(store, f"the {TRIAL_BYTES} bytes written", f"{len(found)} others")
    return Trial(written - begun, read - written, time.monotonic() - read)
