from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.session import ImportSession
from tests.fakes.running_import import begin, easy_settings, session_of
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return easy_settings(tmp_path)


@pytest.fixture
def session(settings: Settings, catalog: Catalog) -> Iterator[ImportSession]:
    """The session of an import that has just begun."""
    with session_of(settings, catalog, begin(catalog)) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started
