from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.system import System
from tests.fakes.web_server import WebServer


@pytest.fixture(scope="session")
def source() -> Iterator[WebServer]:
    """A web server to import from."""
    with WebServer() as server:
        yield server


@pytest.fixture(scope="session")
def system(source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The product on its embedded defaults, but that it may import from `source`."""
    options = {"uri.allowed_hosts": ["127.0.0.1"], "uri.allowed_ports": [80, 443, source.port]}
    with System(tmp_path_factory.mktemp("system"), options) as running:
        yield running
