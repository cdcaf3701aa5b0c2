from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.asked_imports import AskedImports
from tests.fakes.images_api import ApiServer
from tests.fakes.web_server import WebServer
from tests.fakes.yard import Yard
from tests.flows.conftest import Site, prefect_client, server, site

__all__ = ["prefect_client", "server", "site"]


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        yield started


@pytest.fixture
def imports(site: Site, api_server: ApiServer, prefect_client: None) -> AskedImports:
    return AskedImports(site, api_server)


@pytest.fixture
def yard(
    site: Site, api_server: ApiServer, server: WebServer, prefect_client: None, monkeypatch: pytest.MonkeyPatch
) -> Yard:
    """A site with several fake stores that count and fail."""
    return Yard(site, api_server, server, monkeypatch)
