"""Where runs of uploaded data go, and how the keeper learns which hosts serve their staging."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.apply import apply
from tests.fakes.images import NOW, queued_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from tests.keeper.test_states import patiently
from transship.catalog.engine import Catalog
from transship.catalog.hosts import is_gone
from transship.catalog.imports import Caller, Order, ask_import
from transship.catalog.tasks import get_task
from transship.catalog.uploads import begin_upload, finish_stage
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportMethod, ImportRequest
from transship.keeper.prefect_api import PrefectApi
from transship.keeper.service import Keeper

pytestmark = pytest.mark.real


@pytest.fixture
def keeper(catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path) -> Keeper:
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path))
    with prefect_server.as_client():
        apply(settings)
    return Keeper(settings, catalog, PrefectApi(prefect_server.url, prefect_server.auth_string), "keeper")


def staged(catalog: Catalog, host: str) -> str:
    """Add an image whose data lie on a host; return its id."""
    image_id = queued_image(catalog).id
    upload = begin_upload(
        catalog, image_id, ImageStatus.UPLOADING, lambda _image: None, owner="test", host=host, ttl_s=3600, now=NOW
    )
    finish_stage(catalog, upload, 5, None, NOW)
    return image_id


def asked(catalog: Catalog, image_id: str) -> str:
    request = ImportRequest(ImportMethod.GLANCE_DIRECT, stores=("local",), all_stores_must_succeed=False)
    task_input = {"import_req": {"all_stores_must_succeed": False}, "backend": ["local"]}
    return ask_import(catalog, image_id, Order(request, ("local",), task_input), Caller(), NOW).id


def gone(catalog: Catalog, host: str) -> bool:
    with catalog.read() as connection:
        return is_gone(connection, host)


def test_uploaded_data_are_imported_by_the_host_that_holds_them(keeper: Keeper, prefect_server: PrefectServer) -> None:
    task_id = asked(keeper.catalog, staged(keeper.catalog, "far-away"))
    until(keeper.tell, 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        task = get_task(connection, task_id)
    run = prefect_server.ask("GET", f"/flow_runs/{task.flow_run_id}")
    assert (run["work_pool_name"], run["work_queue_name"]) == (keeper.settings.prefect.work_pool, "host-far-away")
    assert run["parameters"] == {
        "image_id": task.image_id,
        "task_id": task_id,
        "stores": ["local"],
        "all_stores_must_succeed": False,
    }


def test_a_host_is_gone_when_its_worker_was_not_heard_of_for_long(
    keeper: Keeper, prefect_server: PrefectServer
) -> None:
    catalog = keeper.catalog
    for host in ("served", "silent"):
        staged(catalog, host)
    heartbeat = {"name": "served", "heartbeat_interval_seconds": 600}
    prefect_server.ask("POST", f"/work_pools/{keeper.settings.prefect.work_pool}/workers/heartbeat", heartbeat)
    assert patiently(keeper.watch_hosts) == 0
    assert [gone(catalog, host) for host in ("served", "silent", "unheard")] == [False, False, False]
    # A keeper that has watched for as long as everything may take to start.
    settled = replace(keeper, started_at=time.monotonic() - 3600)
    assert patiently(settled.watch_hosts) == 1
    assert [gone(catalog, host) for host in ("served", "silent", "unheard")] == [False, True, False]
    prefect_server.ask(
        "POST", f"/work_pools/{keeper.settings.prefect.work_pool}/workers/heartbeat", {**heartbeat, "name": "silent"}
    )
    assert patiently(keeper.watch_hosts) == 0
    assert not gone(catalog, "silent")
