"""What tests of all rooms share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.fakes.prefect_server import PrefectServer


def _isolate_prefect() -> None:
    """Keep Prefect away from the profile of whoever runs the tests, and from starting servers unasked.

    Prefect reads its settings when it is first imported, so this cannot wait for a fixture.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="prefect-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        PREFECT_HOME=home,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
    )


_isolate_prefect()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """A real Prefect server of this test session; tests tell their objects apart by name."""
    with PrefectServer() as server:
        yield server
