"""glance-direct flows: how they use an upload, and what happens to it."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State

from flows.glance_direct import glance_direct
from tests.acceptance.conftest import api_server, imports
from tests.fakes.asked_imports import AskedImports
from tests.fakes.images import NOW
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.running_import import staging_names
from transship.catalog.endings import end_unheld
from transship.catalog.schema import OUTBOX
from transship.catalog.uploads import give_up_uploads
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real

__all__ = ["api_server", "imports"]

BODY = os.urandom(300_000)


@pytest.fixture
def image_id(imports: AskedImports) -> str:
    """An image whose data are staged."""
    made = imports.create()
    assert imports.stage(made, BODY).status_code == 204
    return made


def by_hand(image_id: str, **parameters: Any) -> State[Any]:
    state: State[Any] = glance_direct(UUID(image_id), return_state=True, **parameters)
    return state


def task_states(server: PrefectServer, imports: AskedImports, image_id: str) -> dict[str, str]:
    """Return the names of the last states of the run's Prefect tasks."""
    wanted = {"flow_runs": {"id": {"any_": [str(imports.task(image_id).flow_run_id)]}}}
    found = server.ask("POST", "/task_runs/filter", wanted)
    return {run["name"]: run["state"]["name"] for run in found}


def test_a_run_started_by_hand_imports_what_is_staged(imports: AskedImports, image_id: str) -> None:
    state = by_hand(image_id)
    assert (state.type, state.name, state.message) == ("COMPLETED", "Imported", "imported to local")
    image = imports.image(image_id)
    assert (image.status, image.os_hash_value) == (ImageStatus.ACTIVE, hashlib.sha512(BODY).hexdigest())
    assert imports.site.stored() == {image_id: BODY}
    assert imports.task(image_id).status is TaskStatus.SUCCESS
    assert str(by_hand(image_id).message).startswith(f"Image {image_id} is active; it needs to be uploading")


def test_a_run_started_by_hand_on_another_host_hands_the_import_over(imports: AskedImports, image_id: str) -> None:
    imports.site.set(host_name="there", staging__dir=str(imports.site.home / "staging-there"))
    state = by_hand(image_id)
    assert (state.type, state.name) == ("COMPLETED", "Superseded")
    assert "the data are on host here" in str(state.message)
    task = imports.task(image_id)
    assert (task.status, imports.lease(image_id)) == (TaskStatus.PENDING, "queued")
    with imports.site.catalog.read() as connection:
        assert [row.task_id for row in connection.execute(OUTBOX.select())] == [task.id]
    imports.site.set(host_name="here", staging__dir=str(imports.site.home / "staging"))
    imports.carry(image_id)
    assert imports.image(image_id).status is ImageStatus.ACTIVE


def test_a_run_that_was_moved_to_another_host_fails_and_keeps_the_data(imports: AskedImports, image_id: str) -> None:
    imports.ask_direct(image_id)
    imports.site.set(host_name="there", staging__dir=str(imports.site.home / "staging-there"))
    state = imports.carry(image_id)
    assert "are on host here, and this is there" in str(state.message)
    assert imports.image(image_id).status is ImageStatus.UPLOADING
    imports.site.set(host_name="here", staging__dir=str(imports.site.home / "staging"))
    imports.ask_direct(image_id)
    assert imports.carry(image_id).is_completed()


def test_data_that_were_hashed_on_the_way_are_not_read_for_it_again(
    imports: AskedImports, image_id: str, prefect_server: PrefectServer
) -> None:
    imports.ask_direct(image_id)
    imports.carry(image_id)
    assert imports.image(image_id).os_hash_value == hashlib.sha512(BODY).hexdigest()
    from tests.fakes.system import until  # noqa: PLC0415

    until(lambda: task_states(prefect_server, imports, image_id).get("digest") == "Skipped", 180, "the digest's state")


def test_an_algorithm_that_was_changed_since_is_computed(imports: AskedImports, image_id: str) -> None:
    imports.site.set(imports__hashing_algorithm="sha256")
    imports.ask_direct(image_id)
    imports.carry(image_id)
    image = imports.image(image_id)
    assert (image.os_hash_algo, image.os_hash_value) == ("sha256", hashlib.sha256(BODY).hexdigest())


@pytest.mark.parametrize("fault", ["gone", "cut"])
def test_an_upload_that_is_gone_from_staging_is_said_and_the_image_is_queued(
    imports: AskedImports, image_id: str, fault: str
) -> None:
    [path] = [path for path in imports.site.settings.staging_dir.iterdir() if path.name.startswith(image_id)]
    path.unlink()
    if fault == "cut":
        path.write_bytes(BODY[:-1])
    imports.ask_direct(image_id)
    state = imports.carry(image_id)
    assert "are gone from the staging of here; upload them again" in str(state.message)
    assert (imports.image(image_id).status, staging_names(imports.site.settings)) == (ImageStatus.QUEUED, set())
    assert imports.stage(image_id, BODY).status_code == 204


def test_an_import_that_ends_before_it_began_keeps_the_upload(imports: AskedImports, image_id: str) -> None:
    imports.ask_direct(image_id)
    task = imports.task(image_id)
    assert end_unheld(imports.site.catalog, task.id, "cancelled", now=NOW, time_to_live_h=1, rerun_ttl_s=60)
    image = imports.image(image_id)
    assert (image.status, image.size, image.import_message) == (ImageStatus.UPLOADING, len(BODY), "cancelled")
    imports.ask_direct(image_id)
    assert imports.carry(image_id).is_completed()


def test_an_upload_whose_import_failed_long_ago_is_given_up(imports: AskedImports, image_id: str) -> None:
    catalog = imports.site.catalog
    imports.ask_direct(image_id)
    end_unheld(catalog, imports.task(image_id).id, "cancelled", now=NOW + timedelta(days=3650), time_to_live_h=1)
    ended = NOW + timedelta(days=3650)
    assert give_up_uploads(catalog, ended - timedelta(1), NOW) == []
    assert imports.image(image_id).status is ImageStatus.UPLOADING
    assert give_up_uploads(catalog, ended + timedelta(1), NOW) == [image_id]
    assert imports.image(image_id).status is ImageStatus.QUEUED


def test_an_upload_that_nobody_imported_waits(imports: AskedImports, image_id: str) -> None:
    assert give_up_uploads(imports.site.catalog, NOW + timedelta(days=9999), NOW) == []
    assert imports.image(image_id).status is ImageStatus.UPLOADING
