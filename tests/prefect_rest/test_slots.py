"""Slots of stores as global limits of a real Prefect server, and imports without a slot."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from structlog.testing import capture_logs

from config.settings import Settings, store_limit_name
from tasks.place import _OnBoard, placer
from tasks.session import ImportSession
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.running_import import begin, easy_settings, file_stores, session_of
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.domain.errors import ImportCancelled

pytestmark = pytest.mark.real


@pytest.fixture
def store(prefect_server: PrefectServer) -> Iterator[str]:
    """A store with one slot."""
    store = f"s{uuid4().hex[:8]}"
    with prefect_server.as_client():
        prefect_server.ask("POST", "/v2/concurrency_limits/", {"name": store_limit_name(store), "limit": 1})
        yield store


def settings_of(home: Path, store: str, **imports: Any) -> Settings:
    stores = file_stores(**{store: home / "images"})
    return easy_settings(home, **stores, imports={"store_slots": {store: 1}, **imports})


@pytest.fixture
def session(catalog: Catalog, tmp_path: Path, store: str) -> Iterator[ImportSession]:
    with session_of(settings_of(tmp_path, store), catalog, begin(catalog, "http://h/x", store)) as opened:
        yield opened


def slot(session: ImportSession, store: str) -> AbstractContextManager[None]:
    return placer(session).slots(store, session.stop, _OnBoard(session.board, store, 1))


def taken(server: PrefectServer, store: str) -> int:
    return int(server.ask("GET", f"/v2/concurrency_limits/{store_limit_name(store)}")["active_slots"])


def test_a_slot_is_held_while_a_copy_is_written(
    session: ImportSession, store: str, prefect_server: PrefectServer
) -> None:
    with slot(session, store):
        assert taken(prefect_server, store) == 1
    assert taken(prefect_server, store) == 0


def test_a_copy_that_fails_gives_its_slot_back(
    session: ImportSession, store: str, prefect_server: PrefectServer
) -> None:
    with pytest.raises(ZeroDivisionError), slot(session, store):
        raise ZeroDivisionError
    assert taken(prefect_server, store) == 0


def test_the_next_copy_waits_until_the_slot_is_free(session: ImportSession, store: str) -> None:
    got_it = threading.Event()

    def other() -> None:
        with slot(session, store):
            got_it.set()

    with slot(session, store):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
        thread.start()
        until(lambda: session.board.now.stores[0].waits, 180.0, "the other to wait")
        assert not got_it.is_set()
        assert session.board.now.stores[0].waits.startswith("waits for a slot of its store since ")
        assert store_limit_name(store) in session.board.now.stores[0].waits
    assert got_it.wait(180)
    thread.join()
    assert (session.board.now.stores[0].phase, session.board.now.stores[0].waits) == ("uploading", "")


def test_a_copy_that_waits_for_a_slot_can_be_cancelled(session: ImportSession, store: str) -> None:
    with slot(session, store):
        session.stop.stop(ImportCancelled("cancelled in Prefect"))
        with pytest.raises(ImportCancelled), slot(session, store):
            pytest.fail("no slot was free")


def test_without_a_free_slot_in_time_the_copy_is_written_all_the_same(
    catalog: Catalog, tmp_path: Path, store: str
) -> None:
    settings = settings_of(tmp_path, store, store_slot_timeout_s=0.01)
    with (
        session_of(settings, catalog, begin(catalog, "http://h/x", store)) as session,
        slot(session, store),
        capture_logs() as logs,
        slot(session, store),
    ):
        pass
    assert [line["event"] for line in logs] == ["no slot of the store free in time; writing without one"]


def test_without_prefect_the_copy_is_written_all_the_same(session: ImportSession, store: str) -> None:
    away = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
    written = []
    with temporary_settings(away), capture_logs() as logs, slot(session, store):
        written.append(store)
    assert written == [store]
    assert [line["event"] for line in logs] == ["store limit not available; writing without a slot"]


def test_a_store_without_a_limit_costs_no_call(catalog: Catalog, tmp_path: Path) -> None:
    settings = easy_settings(tmp_path)
    with (
        session_of(settings, catalog, begin(catalog)) as session,
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        capture_logs() as logs,
        slot(session, "local"),
    ):
        pass
    assert logs == []
