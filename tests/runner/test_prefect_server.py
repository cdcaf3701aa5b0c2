"""Prefect's server with SQLite writes that wait, and what happens where Prefect is not as expected."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

import pytest
import requests
from prefect.server.database.configurations import AioSqliteConfiguration

from tests.fakes.prefect_server import PrefectServer
from transship.runner.prefect_server import (
    CACHE_KIB,
    ServerNote,
    bound_cache,
    keep_references,
    patch,
    read_note,
    write_note,
)

MODE: ContextVar[str | None] = ContextVar("MODE", default=None)


class AsExpected:
    @asynccontextmanager
    async def begin_transaction(self, session: object, with_for_update: bool = False) -> AsyncIterator[None]:
        assert isinstance(session, Session)
        token = MODE.set("IMMEDIATE" if with_for_update else "DEFERRED")
        yield
        MODE.reset(token)


class Session:
    """Notes with which mode it began."""

    began = ""

    async def connection(self) -> None:
        self.began = MODE.get() or ""


class WithoutTheMethod:
    pass


class WithOtherParameters:
    def begin_transaction(self, session: str, mode: str = "DEFERRED") -> tuple[str, str]:
        return session, mode

    def setup_sqlite(self, connection: str) -> str:
        return connection

    def update_block_document(self, document: str) -> str:
        return document


@pytest.mark.parametrize("named", [{}, {"with_for_update": False}, {"with_for_update": True}], ids=str)
def test_every_transaction_takes_the_lock_and_no_session_beside_it_does(named: dict[str, bool]) -> None:
    class Configuration(AsExpected):
        pass

    async def begin() -> tuple[str, str | None]:
        session = Session()
        async with Configuration().begin_transaction(session, **named):
            return session.began, MODE.get()

    assert patch(Configuration, MODE) == ServerNote(True)
    assert asyncio.run(begin()) == ("IMMEDIATE", None)


def test_a_connection_keeps_little_of_the_database(tmp_path: Path) -> None:
    class Configuration(AioSqliteConfiguration):
        pass

    async def cache_size() -> object:
        engine = await Configuration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}").engine()
        async with engine.connect() as connection:
            return (await connection.exec_driver_sql("PRAGMA cache_size")).scalar()

    bound_cache(Configuration)
    assert asyncio.run(cache_size()) == -CACHE_KIB


@pytest.mark.parametrize("changed", [WithoutTheMethod, WithOtherParameters])
def test_a_prefect_that_has_changed_is_left_as_it_is(changed: type) -> None:
    before = dict(vars(changed))
    note = patch(changed, MODE)
    bound_cache(changed)
    keep_references(changed)
    assert not note.immediate
    assert "Prefect has changed" in note.reason
    assert dict(vars(changed)) == before


@pytest.mark.parametrize("note", [ServerNote(True), ServerNote(False, "why")])
def test_how_the_server_was_started_is_read_back(tmp_path: Path, note: ServerNote) -> None:
    write_note(tmp_path / "note", note)
    assert read_note(tmp_path / "note") == note


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"other": 1}'])
def test_a_note_that_is_none_is_no_note(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "note").write_text(text)
    assert read_note(tmp_path / "note") is None


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    write_note(tmp_path / "missing" / "note", ServerNote(True))


@pytest.mark.real
def test_a_port_that_is_taken_is_told_with_its_setting_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "transship.runner.prefect_server", "--host=127.0.0.1", f"--port={port}"]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 2
    assert f"prefect.port: port {port} of 127.0.0.1 is taken by another program" in refused.stderr
    assert "--set prefect.port=PORT" in refused.stderr


def test_a_work_queue_can_be_paused(prefect_server: PrefectServer) -> None:
    prefect_server.ask("POST", "/work_pools/", {"name": "to-be-paused", "type": "process"})
    user, password = prefect_server.auth_string.split(":")
    url = f"{prefect_server.url}/work_pools/to-be-paused/queues/default"
    for paused in (True, False):
        # Prefect waits for a lock for a minute.
        answer = requests.patch(url, json={"is_paused": paused}, auth=(user, password), timeout=50)
        assert answer.status_code == 204


@pytest.mark.real
def test_runs_made_at_the_same_time_are_all_made(prefect_server: PrefectServer) -> None:
    flow_id = prefect_server.ask("POST", "/flows/", {"name": "many-at-once"})["id"]
    deployment = prefect_server.ask("POST", "/deployments/", {"name": "many-at-once", "flow_id": flow_id})["id"]
    url = f"{prefect_server.url}/deployments/{deployment}/create_flow_run"
    user, password = prefect_server.auth_string.split(":")

    def make(number: int) -> int:
        return requests.post(url, json={"name": f"run {number}"}, auth=(user, password), timeout=300).status_code

    with ThreadPoolExecutor(16) as threads:
        assert Counter(threads.map(make, range(64))) == {201: 64}
