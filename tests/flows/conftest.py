from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from prefect.logging.handlers import APILogHandler

from config.loading import load_settings
from config.settings import Settings
from tests.fakes.databases import DATABASES
from tests.fakes.images import prepare_stores, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog
from transship.host.directories import MARK
from transship.host.logs import FLOW_ROOMS


@dataclass(frozen=True)
class Site:
    """A home directory and its environment, as a worker's process would find them."""

    home: Path
    catalog: Catalog
    environment: pytest.MonkeyPatch

    @property
    def settings(self) -> Settings:
        return load_settings().settings

    def set(self, **options: str) -> None:
        """Set options by their names in the environment, without the prefix."""
        for name, text in options.items():
            self.environment.setenv(f"TRANSSHIP_{name.upper()}", text)

    def deploy(self) -> None:
        """Prepare the stores, as ``transship deploy`` does."""
        prepare_stores(self.settings, self.catalog)

    def stored(self, store: str = "local") -> dict[str, bytes]:
        """Return the contents of a file store by name, without its mark."""
        directory = self.settings.all_stores[store].dir
        found = directory.iterdir() if directory.is_dir() else ()
        return {path.name: path.read_bytes() for path in found if path.name != MARK}


@pytest.fixture
def site(
    migrated_home: Path, tmp_path: Path, notification_drivers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    shutil.copytree(migrated_home, tmp_path, dirs_exist_ok=True)
    opened = Catalog.open(settings_in(tmp_path, notifications={"drivers": notification_drivers}))
    made = Site(tmp_path, opened, monkeypatch)
    made.set(
        home=str(tmp_path),
        host_name="here",
        uri__allowed_hosts="127.0.0.1",
        uri__allowed_ports="",
        staging__free_floor_bytes="0",
        download__retries="1",
        download__backoff_s="0.01",
        imports__store_retries="0",
        notifications__drivers=",".join(notification_drivers),
    )
    for name, value in DATABASES.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    made.deploy()
    log_settings = structlog.get_config()
    yield made
    for room in FLOW_ROOMS:
        logging.getLogger(room).setLevel(logging.NOTSET)
    structlog.configure(**log_settings)
    opened.close()


@pytest.fixture
def prefect_client(prefect_server: PrefectServer) -> Iterator[None]:
    """Flows of this test are runs of the shared Prefect server."""
    with prefect_server.as_client():
        yield
        APILogHandler().flush()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started
