from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.web_server import WebServer


@pytest.fixture(scope="session")
def source() -> Iterator[WebServer]:
    """A web server to import from."""
    with WebServer() as server:
        yield server
