"""The whole product with nothing in SQLite, and a database that goes away under it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests.fakes.postgres import PostgresServer, postgres_binaries
from tests.fakes.system import Gate, System, until
from tests.fakes.web_server import WebServer

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        postgres_binaries() is None,
        reason="PostgreSQL's server programs are not installed (apt-get install postgresql)",
    ),
]

BODY = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """The server of the catalogue; Prefect has one of its own, so that each can be away alone."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def postgres_of_prefect() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def on_postgres(
    postgres: PostgresServer,
    postgres_of_prefect: PostgresServer,
    source: WebServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [80, 443, source.port],
        "database.url": postgres.new_database(),
        "database.secret_key": Fernet.generate_key().decode(),
        "prefect.database_url": postgres_of_prefect.new_database(),
    }
    with System(tmp_path_factory.mktemp("on-postgres"), options) as running:
        yield running


def test_an_import_leaves_no_database_in_the_home_directory(on_postgres: System, source: WebServer) -> None:
    image = on_postgres.import_from(source.serve("/postgres.img", BODY), name="on postgres")
    assert (image["status"], image["size"]) == ("active", len(BODY)), on_postgres.logs()
    assert [path.name for path in on_postgres.home.rglob("*.db")] == []


def test_an_import_outlives_a_restart_of_its_database(
    on_postgres: System, postgres: PostgresServer, source: WebServer
) -> None:
    gate = Gate(BODY)
    image_id = on_postgres.create(name="restarted")
    try:
        assert on_postgres.ask(image_id, source.on("/restarted.img", gate.behaviour())).status_code == 202
        assert gate.reached.wait(180), on_postgres.logs()
        postgres.stop()
        postgres.start()
    finally:
        gate.open()
    assert on_postgres.ended(image_id)["status"] == "success"
    assert on_postgres.image(image_id)["status"] == "active"


def test_an_import_that_finds_no_database_when_it_begins_is_started_again(
    on_postgres: System, postgres: PostgresServer, source: WebServer
) -> None:
    pool = f"/work_pools/{on_postgres.settings.prefect.work_pool}"
    on_postgres.prefect("PATCH", pool, {"is_paused": True})
    try:
        image_id = on_postgres.create(name="patient")
        assert on_postgres.ask(image_id, source.serve("/patient.img", BODY)).status_code == 202
        run_id = on_postgres.flow_run(image_id)["id"]
        postgres.stop()
    finally:
        on_postgres.prefect("PATCH", pool, {"is_paused": False})
    _crashes_and_is_resumed(on_postgres, postgres, image_id, run_id)


def test_an_import_that_loses_its_database_in_the_middle_is_resumed(
    on_postgres: System, postgres: PostgresServer, source: WebServer
) -> None:
    gate = Gate(BODY)
    image_id = on_postgres.create(name="in the middle")
    try:
        assert on_postgres.ask(image_id, source.on("/middle.img", gate.behaviour())).status_code == 202
        assert gate.reached.wait(180), on_postgres.logs()
        run_id = on_postgres.flow_run(image_id)["id"]
        postgres.stop()
    finally:
        gate.open()
    _crashes_and_is_resumed(on_postgres, postgres, image_id, run_id)


def _crashes_and_is_resumed(system: System, postgres: PostgresServer, image_id: str, run_id: str) -> None:
    try:
        seen = until(lambda: _final_state(system, run_id), 180.0, "crash of the run")
    finally:
        postgres.start()
    assert seen["type"] == "CRASHED", seen
    assert system.ended(image_id)["status"] == "success"
    assert system.flow_run(image_id)["id"] == run_id


def _final_state(system: System, run_id: str) -> dict[str, Any] | None:
    state: dict[str, Any] = system.prefect("GET", f"/flow_runs/{run_id}")["state"]
    return state if state["type"] in ("CRASHED", "FAILED", "COMPLETED", "CANCELLED") else None
