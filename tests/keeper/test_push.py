"""Which runs the keeper pushes to its machine's runner, and which it leaves to the queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.apply import apply
from tests.fakes.images import asked, queued_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.shelf import Shelf
from tests.fakes.system import until
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog
from transship.catalog.outbox import due
from transship.catalog.tasks import get_task
from transship.domain.push import RUNNER_SOCKET
from transship.keeper.dispatch import send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import CreatedRun, PrefectApi, WantedRun

pytestmark = pytest.mark.real


@pytest.fixture
def keeper(catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path) -> Keeper:
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path))
    settings.run_dir.mkdir(exist_ok=True)
    with prefect_server.as_client():
        apply(settings)
    return Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), "keeper")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a shelf that has to share its process."""
    monkeypatch.setattr("transship.keeper.push.PATIENCE_S", 60.0)


@pytest.fixture
def shelf(keeper: Keeper) -> Iterator[Shelf]:
    with Shelf(keeper.settings.run_dir / RUNNER_SOCKET) as started:
        yield started


def dispatched(keeper: Keeper) -> str:
    """Request an import and dispatch it; return its flow run."""
    task_id = asked(keeper.catalog, queued_image(keeper.catalog)).id
    until(lambda: send_outbox(keeper), 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        assert due(connection, 10) == []
        return str(get_task(connection, task_id).flow_run_id)


def state_of(server: PrefectServer, run_id: str) -> str:
    return str(server.ask("GET", f"/flow_runs/{run_id}")["state"]["type"])


def test_a_run_with_a_slot_is_born_pending_and_handed_over_whole(
    keeper: Keeper, shelf: Shelf, prefect_server: PrefectServer
) -> None:
    run_id = dispatched(keeper)
    assert shelf.changed.get(timeout=60) == "run"
    pushed = dict(shelf.runs[0])
    assert (pushed["id"], pushed["state"]["type"], pushed["work_queue_name"]) == (run_id, "PENDING", "default")
    assert pushed["parameters"]["stores"] == ["local"]
    kept = prefect_server.ask("GET", f"/flow_runs/{run_id}")
    assert kept["state"]["message"] == f"given to the worker of {keeper.settings.host_name}"
    of_the_moment = {"estimated_run_time", "estimated_start_time_delta", "updated", "total_run_time"}
    assert {name: value for name, value in kept.items() if name not in of_the_moment} == {
        name: value for name, value in pushed.items() if name not in of_the_moment
    }


def test_without_a_slot_a_run_waits_in_its_queue(keeper: Keeper, shelf: Shelf, prefect_server: PrefectServer) -> None:
    shelf.left = 0
    assert state_of(prefect_server, dispatched(keeper)) == "SCHEDULED"
    assert (shelf.asked, shelf.runs) == (["default"], [])


def test_without_a_runner_a_run_waits_in_its_queue(keeper: Keeper, prefect_server: PrefectServer) -> None:
    assert state_of(prefect_server, dispatched(keeper)) == "SCHEDULED"


def test_a_slot_is_given_back_when_prefect_does_not_make_the_run(
    catalog: Catalog, tmp_path: Path, shelf: Shelf
) -> None:
    with WebServer() as prefect:
        url = prefect.serve("/api/deployments/name/web-download/transship", json.dumps({"id": "d"}).encode())
        keeper = Keeper(settings_in(tmp_path), catalog, PrefectApi(url.partition("/deployments")[0], ""), "keeper")
        asked(catalog, queued_image(catalog))
        assert send_outbox(keeper) == 0
    assert shelf.asked == ["default"]
    assert shelf.changed.get(timeout=60) == "free"
    assert (shelf.runs, shelf.left) == ([], 1)


def test_a_run_that_an_earlier_keeper_made_is_not_pushed_again(
    keeper: Keeper, shelf: Shelf, prefect_server: PrefectServer
) -> None:
    """The earlier one may have been killed before it pushed, or after: the runner knows, the keeper does not."""
    task_id = asked(keeper.catalog, queued_image(keeper.catalog)).id
    with keeper.catalog.read() as connection:
        key = due(connection, 1)[0].key
    wanted = WantedRun("web-download/transship", "earlier", {"uri": "http://h/x"}, key, "default")
    made: list[CreatedRun] = []
    until(lambda: made.append(keeper.prefect.claim(wanted, "a keeper that died")) or True, 180.0, "an earlier run")
    assert made[0].as_asked
    until(lambda: send_outbox(keeper), 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        assert get_task(connection, task_id).flow_run_id == made[0].id
    assert shelf.changed.get(timeout=60) == "free"
    assert (shelf.runs, shelf.left) == ([], 1)
    assert state_of(prefect_server, made[0].id) == "PENDING"


def test_a_deployment_with_a_limit_is_left_to_prefect(
    keeper: Keeper, shelf: Shelf, prefect_server: PrefectServer
) -> None:
    deployment = prefect_server.ask("GET", "/deployments/name/web-download/transship")["id"]
    prefect_server.ask("PATCH", f"/deployments/{deployment}", {"concurrency_limit": 5})
    try:
        run_id = dispatched(keeper)
    finally:
        prefect_server.ask("PATCH", f"/deployments/{deployment}", {"concurrency_limit": None})
    assert state_of(prefect_server, run_id) == "SCHEDULED"
    assert shelf.asked == []
