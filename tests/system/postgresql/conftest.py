"""A system that keeps nothing in SQLite, set up as the first of two hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cryptography.fernet import Fernet

from tests.fakes.postgres import PostgresServer
from tests.fakes.system import STANDING_SOURCES, System
from tests.fakes.web_server import WebServer

FIRST: Final = "host1"

ADDRESS: Final = "127.0.0.2"
"""Of the first host's Prefect: not where it listens when nobody says anything."""


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresServer]:
    """The server of the catalogue; Prefect has one of its own, so that each can be away alone."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="package")
def postgres_of_prefect() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="package")
def catalogue(postgres: PostgresServer) -> dict[str, str]:
    """The options that lead to the catalogue."""
    return {"database.url": postgres.new_database(), "database.secret_key": Fernet.generate_key().decode()}


@pytest.fixture(scope="package")
def shared_file(
    catalogue: dict[str, str],
    postgres_of_prefect: PostgresServer,
    source: WebServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The settings file that all hosts have, in the directory of their homes."""
    directory = tmp_path_factory.mktemp("hosts")
    options = {
        "default_store": "shared",
        "stores.shared.dir": str(directory / "shared"),
        **catalogue,
        "prefect.host": ADDRESS,
        "prefect.database_url": postgres_of_prefect.new_database(),
        "prefect.worker_limit": 1,
        "prefect.poll_interval_s": 2,
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "lease.ttl_s": 15.0,
        "lease.renew_s": 1.0,
        **STANDING_SOURCES,
        "lease.crash_retries": 9,
    }
    file = directory / "transship.toml"
    file.write_text("".join(f"{option} = {json.dumps(value)}\n" for option, value in options.items()))
    return file


@pytest.fixture(scope="package")
def system(shared_file: Path, catalogue: dict[str, str]) -> Iterator[System]:
    # The catalogue is named again: what `--database` chooses stands in the environment, which wins over the file.
    options = {"config": str(shared_file), "host_name": FIRST, **catalogue}
    with System(shared_file.with_name("first"), options) as running:
        yield running
