"""An Images API for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.images import settings_in
from tests.fakes.images_api import ApiMaker, ApiServer, ImagesApi, fresh_home
from transship.catalog.engine import Catalog


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template")
    Catalog.open(settings_in(home)).close()
    return home


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def make_api(empty_home: Path, api_server: ApiServer, tmp_path: Path) -> Iterator[ApiMaker]:
    """Make an API with sections of settings of one's own; only the newest of a test is served."""
    with ExitStack() as made:

        def make(**sections: Any) -> ImagesApi:
            home = fresh_home(empty_home, tmp_path / f"home-{len(list(tmp_path.iterdir()))}")
            api = ImagesApi(home, api_server, sections)
            made.callback(api.close)
            return api

        yield make


@pytest.fixture
def api(make_api: ApiMaker) -> ImagesApi:
    return make_api()
