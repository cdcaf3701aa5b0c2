"""The system for all tests without special options.

Tests distinguish their images by id, and leave the system running.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.fleet import Fleet
from tests.fakes.system import System
from tests.fakes.web_server import WebServer

RANGE_BYTES = 16 << 20  # more than the sockets hold
CONNECTIONS = 4

OPTIONS = {
    "download.range_bytes": RANGE_BYTES,
    "download.connections": CONNECTIONS,
    # An upload may stand still for as long as a test on a slow machine needs.
    "upload.idle_timeout_s": 600.0,
    "upload.min_speed_window_s": 600.0,
    # No test waits for the end of a lease: see `System.expire_lease`.
    "lease.ttl_s": 600.0,
}


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The product with two stores and all methods."""
    with Fleet(tmp_path_factory.mktemp("shared"), OPTIONS) as running:
        yield running


@pytest.fixture(scope="package")
def system(fleet: Fleet) -> System:
    return fleet.system


@pytest.fixture(scope="package")
def source(fleet: Fleet) -> WebServer:
    """A web server that the system may import from."""
    return fleet.source
