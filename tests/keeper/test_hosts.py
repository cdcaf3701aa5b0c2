"""The hosts of runs for uploaded data."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.apply import apply
from tests.fakes.images import NOW, queued_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.catalog.imports import Caller, Order, ask_import
from transship.catalog.tasks import get_task
from transship.catalog.uploads import begin_upload, finish_stage
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.keeper.dispatch import send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi

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
    return ask_import(catalog, image_id, Order(request, ("local",)), Caller(), NOW).id


def test_uploaded_data_are_imported_by_the_host_that_holds_them(keeper: Keeper, prefect_server: PrefectServer) -> None:
    task_id = asked(keeper.catalog, staged(keeper.catalog, "far-away"))
    until(lambda: send_outbox(keeper), 180.0, "dispatch")
    with keeper.catalog.read() as connection:
        task = get_task(connection, task_id)
    run = prefect_server.ask("GET", f"/flow_runs/{task.flow_run_id}")
    assert (run["work_pool_name"], run["work_queue_name"]) == (keeper.settings.prefect.work_pool, "host-far-away")
    assert run["parameters"] == {
        "image_id": task.image_id,
        "task_id": task_id,
        "stores": ["local"],
        "all_stores_must_succeed": False,
        "parameters_version": 1,
    }
