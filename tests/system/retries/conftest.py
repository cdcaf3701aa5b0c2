"""A system without automatic resumes and with a slow second store, for operators' work on ended imports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.fleet import METHODS, TARGETS, Fleet

FIRST, SECOND = TARGETS
RATE_MIB_PER_S = 8
RANGE_BYTES = 16 << 20  # more than the sockets hold
CONNECTIONS = 4


@pytest.fixture(scope="package")
def slow_store() -> Iterator[Path]:
    """A directory on another filesystem than staging: what comes there is copied, so that its rate counts."""
    directory = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="transship-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="package")
def fleet(slow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("retries")
    assert home.stat().st_dev != slow_store.stat().st_dev
    options = {
        "stores": {FIRST: {"dir": str(home / "stores" / FIRST)}, SECOND: {"dir": str(slow_store)}},
        "imports.store_mib_per_s": {SECOND: RATE_MIB_PER_S},
        # What ends stays ended until somebody presses Retry.
        "lease.crash_retries": 0,
        "prefect.worker_limit": len(METHODS),
        "download.range_bytes": RANGE_BYTES,
        "download.connections": CONNECTIONS,
    }
    with Fleet(home, options) as running:
        yield running
