"""How the keeper makes the run of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.apply import apply
from tests.fakes.images import asked, queued_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.catalog.outbox import due
from transship.catalog.tasks import get_task
from transship.keeper.dispatch import send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi, WantedRun

pytestmark = pytest.mark.real


@pytest.fixture
def keeper(catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path) -> Keeper:
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path))
    settings.run_dir.mkdir(exist_ok=True)
    with prefect_server.as_client():
        apply(settings)
    return Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), "keeper")


def dispatched(keeper: Keeper) -> str:
    """Ask for an import and have it dispatched; return its flow run."""
    task_id = asked(keeper.catalog, queued_image(keeper.catalog)).id
    until(lambda: send_outbox(keeper), 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        assert due(connection, 10) == []
        return str(get_task(connection, task_id).flow_run_id)


def test_a_run_waits_in_its_queue(keeper: Keeper, prefect_server: PrefectServer) -> None:
    run = prefect_server.ask("GET", f"/flow_runs/{dispatched(keeper)}")
    assert (run["state"]["type"], run["work_queue_name"]) == ("SCHEDULED", "default")
    assert run["parameters"]["stores"] == ["local"]


def test_a_run_that_an_earlier_keeper_made_is_not_made_again(keeper: Keeper) -> None:
    task_id = asked(keeper.catalog, queued_image(keeper.catalog)).id
    with keeper.catalog.read() as connection:
        key = due(connection, 1)[0].key
    wanted = WantedRun("web-download", "earlier", {"uri": "http://h/x"}, key, "default")
    made: list[str] = []
    until(lambda: made.append(keeper.prefect.schedule(wanted)) or True, 180.0, "an earlier run")
    until(lambda: send_outbox(keeper), 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        assert get_task(connection, task_id).flow_run_id == made[0]
