"""The whole product without SQLite, and with a database that goes away."""

from __future__ import annotations

import os
from typing import Any

import pytest

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


def test_an_import_leaves_no_database_in_the_home_directory(system: System, source: WebServer) -> None:
    image = system.import_from(source.serve("/postgres.img", BODY), name="on postgres")
    assert (image["status"], image["size"]) == ("active", len(BODY)), system.logs()
    assert [path.name for path in system.home.rglob("*.db")] == []


def test_an_import_outlives_a_restart_of_its_database(
    system: System, postgres: PostgresServer, source: WebServer
) -> None:
    gate = Gate(BODY)
    image_id = system.create(name="restarted")
    try:
        assert system.ask(image_id, source.on("/restarted.img", gate.behaviour())).status_code == 202
        assert gate.reached.wait(180), system.logs()
        postgres.stop()
        postgres.start()
    finally:
        gate.open()
    assert system.ended(image_id)["status"] == "success"
    assert system.image(image_id)["status"] == "active"


def test_an_import_that_finds_no_database_when_it_begins_is_started_again(
    system: System, postgres: PostgresServer, source: WebServer
) -> None:
    pool = f"/work_pools/{system.settings.prefect.work_pool}"
    system.prefect("PATCH", pool, {"is_paused": True})
    try:
        image_id = system.create(name="patient")
        assert system.ask(image_id, source.serve("/patient.img", BODY)).status_code == 202
        run_id = system.flow_run(image_id)["id"]
        postgres.stop()
    finally:
        system.prefect("PATCH", pool, {"is_paused": False})
    _crashes_and_is_resumed(system, postgres, image_id, run_id)


def test_an_import_that_loses_its_database_in_the_middle_is_resumed(
    system: System, postgres: PostgresServer, source: WebServer
) -> None:
    gate = Gate(BODY)
    image_id = system.create(name="in the middle")
    try:
        assert system.ask(image_id, source.on("/middle.img", gate.behaviour())).status_code == 202
        assert gate.reached.wait(180), system.logs()
        run_id = system.flow_run(image_id)["id"]
        postgres.stop()
    finally:
        gate.open()
    _crashes_and_is_resumed(system, postgres, image_id, run_id)


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
