"""Every import that has not begun shows what it waits for, since when, and what ends the wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.apply import apply
from tests.fakes.images import NOW, asked, queued_image, settings_in
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from tests.keeper.test_hosts import asked as asked_direct
from tests.keeper.test_hosts import staged
from tests.keeper.test_states import patiently
from transship.catalog.endings import resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.hosts import Host, hosts, note_host
from transship.catalog.imports import begin_import
from transship.catalog.leases import expire_lease
from transship.catalog.outbox import done, due, postpone
from transship.catalog.tasks import get_task
from transship.catalog.unfinished_imports import WaitingImport, pending_imports, waiting_imports
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.turns import explain_waits, project_limit, refresh_pool
from transship.keeper.waits import Pool, Queue, Situation, explain

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HEARD = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
ALIVE = Host("one", SINCE, True, 2)
WAIT = WaitingImport("task", "image", SINCE, "", 1)
WELL = Situation("", Pool("imports"), "imports", (ALIVE,), 0, 0)
LOST = replace(WELL, hosts=(ALIVE, Host("two", HEARD, False, 2)))
UPLOADED = replace(WAIT, host="two")


@pytest.mark.parametrize(
    ("wait", "now", "what", "remedy"),
    [
        (
            UPLOADED,
            LOST,
            "host two, which holds the uploaded data and was last seen at 2026-01-02 03:00:00 UTC,",
            "runs",
        ),
        (UPLOADED, WELL, "host two, which holds the uploaded data and was never seen,", "upload it again"),
        (UPLOADED, replace(LOST, away="no answer"), "host two, which", "delete the image"),
        (WAIT, replace(WELL, away="Prefect cannot serve now: x"), "Prefect", "Prefect cannot serve now: x"),
        (replace(WAIT, dispatched=False), replace(WELL, away="no answer"), "Prefect", "no answer"),
        (replace(WAIT, dispatched=False, dispatch_error="HTTP 404"), WELL, "Prefect", "HTTP 404"),
        (replace(WAIT, dispatched=False), WELL, "its turn", "when a worker is free"),
        (replace(WAIT, dispatched=False), replace(WELL, share=3), "its turn", "fewer than 3 running imports"),
        (WAIT, replace(WELL, pool=None), "work pool imports", "transship deploy"),
        (WAIT, replace(WELL, pool=Pool("imports", paused=True)), "work pool imports", "paused in Prefect"),
        (WAIT, replace(WELL, pool=Pool("imports", limit=2), running=2), "work pool imports", "2 runs"),
        (WAIT, replace(WELL, pool=Pool("imports", queues={"q": Queue(paused=True)})), "work queue q", "paused"),
        (WAIT, replace(WELL, pool=Pool("imports", queues={"q": Queue(limit=0)})), "work queue q", "0 runs"),
        (WAIT, replace(WELL, hosts=()), "a worker", "transship worker"),
        (WAIT, replace(WELL, hosts=(replace(ALIVE, alive=False),)), "a worker", "transship up"),
        (WAIT, replace(WELL, running=2), "a worker slot", "all 2 are in use"),
        (
            WAIT,
            replace(WELL, pool=Pool("imports", queues={"other": Queue(paused=True)})),
            "a worker to begin it",
            "log",
        ),
    ],
)
def test_a_wait_has_a_cause_a_beginning_and_a_remedy(
    wait: WaitingImport, now: Situation, what: str, remedy: str
) -> None:
    said = explain(wait, "q", now)
    assert said.startswith(f"waits for {what}"), said
    assert " since 2026-01-02 03:04:05 UTC; " in said
    assert remedy in said.partition(" UTC; ")[2]
    # The same situation later gives the same words, so that nothing is written again.
    assert explain(replace(wait, message=said), "q", now) == said


def test_a_resumed_import_keeps_the_reason_in_front() -> None:
    resumed = replace(WAIT, message="its worker was lost; it is being resumed (attempt 2)")
    said = explain(resumed, "q", replace(WELL, running=2))
    assert said.startswith("its worker was lost; it is being resumed (attempt 2) and waits for a worker slot since ")
    again = explain(replace(resumed, message=said), "q", WELL)
    assert again.startswith("its worker was lost; it is being resumed (attempt 2) and waits for a worker to begin it")


# --- with a catalogue ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def explained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.keeper.turns.UNEXPLAINED_S", -1.0)


def without_prefect(catalog: Catalog, home: Path) -> Keeper:
    return Keeper(settings_in(home), catalog, PrefectApi(f"http://127.0.0.1:{free_port()}/api", ""), "keeper")


def message(catalog: Catalog, task_id: str) -> str:
    with catalog.read() as connection:
        return get_task(connection, task_id).message


def handed_over(catalog: Catalog) -> None:
    """Empty the outbox, as if Prefect had taken all."""
    with catalog.write() as connection:
        for row in due(connection, 100):
            done(connection, row)


def test_without_prefect_the_keeper_still_says_what_is_waited_for_and_calls_no_live_host_gone(
    catalog: Catalog, tmp_path: Path
) -> None:
    keeper = without_prefect(catalog, tmp_path)
    with catalog.write() as connection:
        note_host(connection, "here", 4)
        note_host(connection, "lost", 4, heard_s_ago=3600.0)
    plain = asked(catalog, queued_image(catalog)).id
    near, far = (asked_direct(catalog, staged(catalog, host)) for host in ("here", "lost"))
    handed_over(catalog)
    assert explain_waits(keeper) == 3
    assert message(catalog, plain).startswith("waits for Prefect since ")
    assert message(catalog, near).startswith("waits for Prefect since ")
    assert message(catalog, far).startswith("waits for host lost, which holds the uploaded data and was last seen at ")
    with catalog.read() as connection:
        assert {host.name: host.alive for host in hosts(connection)} == {"here": True, "lost": False}


def test_a_request_that_prefect_did_not_take_says_so(catalog: Catalog, tmp_path: Path) -> None:
    keeper = without_prefect(catalog, tmp_path)
    task_id = asked(catalog, queued_image(catalog)).id
    with catalog.write() as connection:
        (row,) = due(connection, 1)
        postpone(connection, row, 3600.0, "Prefect answered HTTP 401: unauthorized")
    keeper.prefect.pool = Pool  # type: ignore[method-assign]  # it answers again meanwhile
    explain_waits(keeper)
    assert message(catalog, task_id).startswith("waits for Prefect since ")
    assert "HTTP 401" in message(catalog, task_id)


def test_an_import_that_began_meanwhile_is_left_alone(catalog: Catalog, tmp_path: Path) -> None:
    keeper = without_prefect(catalog, tmp_path)
    task_id = asked(catalog, queued_image(catalog)).id
    handed_over(catalog)

    def begun_meanwhile(name: str) -> Pool:
        begin_import(catalog, task_id, str(uuid4()), "worker", ttl_s=3600.0, now=NOW)
        return Pool(name)

    keeper.prefect.pool = begun_meanwhile  # type: ignore[method-assign]  # the moment between look and write
    explain_waits(keeper)
    assert message(catalog, task_id) == ""


def test_a_resumed_import_waits_with_its_reason_and_begins_without(catalog: Catalog, tmp_path: Path) -> None:
    keeper = without_prefect(catalog, tmp_path)
    image = queued_image(catalog)
    task_id, run_id = asked(catalog, image).id, str(uuid4())
    handed_over(catalog)
    lease = begin_import(catalog, task_id, run_id, "worker", ttl_s=3600.0, now=NOW).lease
    with catalog.read() as connection:
        assert pending_imports(connection, -1.0) == []
    expire_lease(catalog, lease)
    assert resume_or_end(catalog, image.id, "its worker was lost", crash_retries=9, now=NOW, time_to_live_h=1)
    explain_waits(keeper)
    said = message(catalog, task_id)
    assert said.startswith("its worker was lost; it is being resumed (attempt 2) and waits for Prefect since ")
    with catalog.read() as connection:
        assert [wait.message for wait in waiting_imports(connection)] == [said]


def test_recent_requests_are_about_to_begin(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.keeper.turns.UNEXPLAINED_S", 3600.0)
    keeper = without_prefect(catalog, tmp_path)
    task_id = asked(catalog, queued_image(catalog)).id
    assert explain_waits(keeper) == 0
    assert message(catalog, task_id) == ""


@pytest.mark.real
def test_the_limit_of_the_pool_bounds_the_share_of_a_project(
    catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    login = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "p", "project_name": "service"}
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path), api={"auth": "keystone"}, auth=login)
    keeper = Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), "keeper")
    with prefect_server.as_client():
        apply(settings)
    shares = []
    for limit in (None, 3, 1):
        prefect_server.ask("PATCH", f"/work_pools/{settings.prefect.work_pool}", {"concurrency_limit": limit})
        patiently(lambda: refresh_pool(keeper))
        shares.append(project_limit(keeper, [Host("one", SINCE, True, 8), Host("two", HEARD, False, 8)]))
    assert shares == [7, 2, 1]


@pytest.mark.real
def test_pauses_and_limits_in_prefect_are_named(
    catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path))
    name = settings.prefect.work_pool
    api = PrefectApi(prefect_server.url, prefect_server.auth_string)
    keeper = Keeper(settings, catalog, api, "keeper")
    with catalog.write() as connection:
        note_host(connection, "here", 4)
    task_id = asked(catalog, queued_image(catalog)).id
    handed_over(catalog)

    def said() -> str:
        patiently(lambda: api.pool(name))
        patiently(lambda: explain_waits(keeper))
        return message(catalog, task_id)

    assert "transship deploy" in said()
    with prefect_server.as_client():
        apply(settings)
    assert said().startswith("waits for a worker to begin it ")
    prefect_server.ask("PATCH", f"/work_pools/{name}/queues/default", {"is_paused": True})
    assert said().startswith("waits for work queue default ")
    prefect_server.ask("PATCH", f"/work_pools/{name}", {"is_paused": True})
    assert said().startswith(f"waits for work pool {name} ")
    prefect_server.ask("PATCH", f"/work_pools/{name}/queues/default", {"is_paused": False})
    prefect_server.ask("PATCH", f"/work_pools/{name}", {"is_paused": False, "concurrency_limit": 0})
    assert "its limit in Prefect is 0 runs" in said()
    prefect_server.ask("PATCH", f"/work_pools/{name}", {"concurrency_limit": None})
    prefect_server.ask("PATCH", f"/work_pools/{name}/queues/default", {"concurrency_limit": 0})
    assert said().startswith("waits for work queue default ")
