from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.session import ImportSession
from tests.fakes.images import settings_in
from tests.fakes.running_import import begin, easy_settings, session_of
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory whose catalogue is migrated and empty; copying it is faster than migrating again."""
    home = tmp_path_factory.mktemp("migrated")
    Catalog.open(settings_in(home)).close()
    return home


@pytest.fixture
def catalog(migrated_home: Path, tmp_path: Path) -> Iterator[Catalog]:
    shutil.copytree(migrated_home, tmp_path, dirs_exist_ok=True)
    opened = Catalog.open(settings_in(tmp_path))
    yield opened
    opened.close()


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
