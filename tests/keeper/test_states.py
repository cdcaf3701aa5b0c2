"""Every Prefect state, reached on a real Prefect server, and the resulting task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from deployments.apply import apply
from tests.fakes.images import NOW, asked, queued_image, read_image, settings_in
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.system import until
from transship.catalog.copies import DataFacts
from transship.catalog.endings import end_deleted, finish_import
from transship.catalog.engine import Catalog
from transship.catalog.images import lock_image, mark_deleted
from transship.catalog.imports import begin_import
from transship.catalog.leases import expire_lease
from transship.catalog.outbox import OutboxKind, due, post
from transship.catalog.tasks import get_task
from transship.domain.errors import PrefectAway
from transship.domain.image import ImageStatus
from transship.domain.task import ImportTask, TaskStatus
from transship.keeper.dispatch import _create_run, send_outbox
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import FlowRunState, PrefectApi
from transship.keeper.reconcile import reconcile, settle

pytestmark = pytest.mark.real

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
Result = TypeVar("Result")
FACTS = DataFacts(1, 1, None, "sha512", "ab" * 64, "raw", "bare")


class Scene:
    """One import, a keeper, and Prefect's side of the import."""

    def __init__(self, keeper: Keeper, server: PrefectServer) -> None:
        self.keeper, self.server = keeper, server
        self.catalog: Catalog = keeper.catalog
        self.image = queued_image(self.catalog, name=f"image-{uuid4().hex[:6]}")
        self.task_id = asked(self.catalog, self.image).id
        until(lambda: send_outbox(keeper), 180.0, "dispatch")
        self.run_id = str(self.task().flow_run_id)

    def task(self) -> ImportTask:
        with self.catalog.read() as connection:
            return get_task(connection, self.task_id)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.ask("GET", f"/flow_runs/{self.run_id}")["state"]
        return found

    def enter(self, type_: str, name: str, *, force: bool = True) -> None:
        state = {"type": type_, "name": name, "message": "said by the test"}
        self.server.ask("POST", f"/flow_runs/{self.run_id}/set_state", {"state": state, "force": force})

    def reconciled(self) -> TaskStatus:
        patiently(lambda: reconcile(self.keeper))
        return self.task().status


def patiently(call: Callable[[], Result]) -> Result:
    """Return what a call to Prefect gives; on SQLite its server answers 503 now and then, and the keeper comes back."""
    answers: list[Result] = []

    def answered() -> bool:
        with suppress(PrefectAway):
            answers.append(call())
        return bool(answers)

    until(answered, 180.0, "an answer of Prefect")
    return answers[0]


@pytest.fixture
def scene(catalog: Catalog, prefect_server: PrefectServer, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    changes: dict[str, Any] = getattr(request, "param", {})
    # A pool of its own: no worker takes its runs, so every state stays until the test leaves it.
    settings = settings_in(tmp_path, **prefect_server.apart(tmp_path), **changes)
    with prefect_server.as_client():
        apply(settings)
    prefect = PrefectApi(prefect_server.url, prefect_server.auth_string)
    return Scene(Keeper(settings, catalog, prefect, "keeper"), prefect_server)


@pytest.mark.parametrize(
    ("type_", "name", "status"),
    [
        ("SCHEDULED", "Scheduled", PENDING),
        ("SCHEDULED", "AwaitingRetry", PENDING),
        ("PENDING", "Pending", PENDING),
        ("RUNNING", "Running", PROCESSING),
        ("RUNNING", "Retrying", PROCESSING),
        ("CANCELLING", "Cancelling", PROCESSING),
    ],
)
def test_a_state_on_the_way_is_mirrored(scene: Scene, type_: str, name: str, status: TaskStatus) -> None:
    if type_ == "CANCELLING":
        scene.enter("RUNNING", "Running")  # Prefect cancels a run that has no process at once
    scene.enter(type_, name)
    assert scene.reconciled() is status
    assert read_image(scene.catalog, scene.image.id).status is ImageStatus.IMPORTING


def delete(scene: Scene) -> None:
    """Delete the image as the API does."""
    with scene.catalog.write() as connection:
        image = lock_image(connection, scene.image.id)
        mark_deleted(connection, image.id, NOW)
        end_deleted(connection, image, now=NOW, time_to_live_h=48)


@pytest.mark.parametrize(("before", "after"), [("RUNNING", "CANCELLING"), ("SCHEDULED", "CANCELLED")])
def test_the_run_of_a_deleted_image_is_cancelled(scene: Scene, before: str, after: str) -> None:
    if before == "RUNNING":
        scene.enter("PENDING", "Pending")
        scene.enter("RUNNING", "Running")
    delete(scene)
    until(lambda: send_outbox(scene.keeper), 180.0, "the cancel")
    assert (scene.state()["type"], scene.state()["message"]) == (after, "the image was deleted")


def test_a_run_that_ends_while_it_is_being_cancelled_stays_as_it_ended(scene: Scene) -> None:
    class EndsMeanwhile(PrefectApi):
        def states(self, flow_run_ids: Iterable[str]) -> dict[str, FlowRunState]:
            found = super().states(flow_run_ids)
            scene.enter("COMPLETED", "Superseded")
            return found

    scene.enter("RUNNING", "Running")
    delete(scene)
    racing = EndsMeanwhile(scene.server.url, scene.server.auth_string)
    until(lambda: send_outbox(replace(scene.keeper, prefect=racing)), 180.0, "the cancel")
    assert (scene.state()["type"], scene.state()["name"]) == ("COMPLETED", "Superseded")
    with scene.catalog.read() as connection:
        assert OutboxKind.CANCEL not in [row.kind for row in due(connection, 10)]


def test_a_late_run_is_a_pending_task(scene: Scene) -> None:
    until(lambda: scene.state()["name"] == "Late", 180.0, "Prefect calling the run late")
    assert scene.reconciled() is PENDING


def test_a_run_that_waits_for_a_concurrency_slot_is_a_pending_task(scene: Scene) -> None:
    deployment = scene.server.ask("GET", "/deployments/name/web-download/web-download")
    limit = f"/deployments/{deployment['id']}"
    scene.server.ask("PATCH", limit, {"concurrency_limit": 1})
    try:
        other = Scene(scene.keeper, scene.server)
        for each in (other, scene):
            each.enter("PENDING", "Pending", force=False)
        waiting = [each for each in (other, scene) if each.state()["name"] == "AwaitingConcurrencySlot"]
        assert len(waiting) == 1
        assert waiting[0].reconciled() is PENDING
    finally:
        scene.server.ask("PATCH", limit, {"concurrency_limit": None})


@pytest.mark.parametrize("scene", [{"lease": {"crash_retries": 0}}], indirect=True)
@pytest.mark.parametrize(
    ("type_", "name"),
    [
        ("FAILED", "Failed"),
        ("FAILED", "TimedOut"),
        ("CRASHED", "Crashed"),
        ("CANCELLED", "Cancelled"),
        ("PAUSED", "Paused"),
        ("PAUSED", "Suspended"),
    ],
)
def test_an_end_without_success_fails_the_task_and_frees_the_image(scene: Scene, type_: str, name: str) -> None:
    scene.enter(type_, name)
    assert scene.reconciled() is TaskStatus.FAILURE
    image = read_image(scene.catalog, scene.image.id)
    assert (image.status, image.import_task) == (ImageStatus.QUEUED, None)
    assert image.import_message == scene.task().message != ""


@pytest.mark.parametrize(
    ("type_", "name"),
    [("CRASHED", "Crashed"), ("FAILED", "Failed"), ("CANCELLING", "Cancelling"), ("PAUSED", "Suspended")],
)
def test_a_live_import_is_processing_whatever_prefect_says(scene: Scene, type_: str, name: str) -> None:
    begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter(type_, name)
    assert scene.reconciled() is PROCESSING


def test_a_crashed_run_whose_worker_is_lost_is_scheduled_again(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter("CRASHED", "Crashed")
    expire_lease(scene.catalog, begun.lease)
    assert scene.reconciled() is PENDING
    until(lambda: send_outbox(scene.keeper), 180.0, "second dispatch")
    assert (scene.state()["type"], scene.state()["name"]) == ("SCHEDULED", "AwaitingRetry")
    assert str(scene.task().flow_run_id) == scene.run_id


def test_a_crash_counts_once_however_long_prefect_cannot_be_told_to_start_the_run_again(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter("CRASHED", "Crashed")
    expire_lease(scene.catalog, begun.lease)
    assert scene.reconciled() is PENDING
    attempt = scene.task().attempt
    for _ in range(5):
        # What Prefect shows is the end of the attempt before.
        assert scene.reconciled() is PENDING
    assert scene.task().attempt == attempt
    until(lambda: send_outbox(scene.keeper), 180.0, "second dispatch")
    scene.enter("CRASHED", "Crashed")
    assert scene.reconciled() is PENDING
    assert scene.task().attempt == attempt + 1


def test_a_finished_import_is_a_success_and_prefect_is_told_so(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter("CRASHED", "Crashed")
    finish_import(scene.catalog, begun.lease, FACTS, {}, message="imported to local", now=NOW, time_to_live_h=1)
    assert scene.reconciled() is TaskStatus.SUCCESS
    assert patiently(lambda: settle(scene.keeper)) == 1
    assert (scene.state()["type"], scene.state()["message"]) == ("COMPLETED", "imported to local")


def test_an_import_in_part_stays_failed_in_prefect(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter("FAILED", "Imported in part")
    finish_import(scene.catalog, begun.lease, FACTS, {}, message="imported to local", now=NOW, time_to_live_h=1)
    assert patiently(lambda: settle(scene.keeper)) == 0
    assert (scene.state()["name"], scene.task().status) == ("Imported in part", TaskStatus.SUCCESS)


def test_a_run_that_prefect_forgot_is_made_anew(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.server.ask("DELETE", f"/flow_runs/{scene.run_id}")
    expire_lease(scene.catalog, begun.lease)
    assert scene.reconciled() is PENDING
    until(lambda: send_outbox(scene.keeper), 180.0, "second dispatch")
    assert scene.task().flow_run_id not in (None, scene.run_id)


def test_a_run_that_was_begun_goes_on_when_the_keeper_was_killed_before_it_noted_that_it_told(scene: Scene) -> None:
    begun = begin_import(scene.catalog, scene.task_id, scene.run_id, "me", ttl_s=3600.0, now=NOW)
    scene.enter("RUNNING", "Running")
    for lost in (False, True):
        with scene.catalog.write() as connection:
            post(connection, OutboxKind.DISPATCH, f"{scene.task_id}/1", scene.task_id, {"attempt": 1})
        until(lambda: send_outbox(scene.keeper), 180.0, "second dispatch")
        with scene.catalog.read() as connection:
            assert due(connection, 10) == []
        assert scene.state()["name"] == "Running"
        if not lost:
            expire_lease(scene.catalog, begun.lease)


def test_telling_twice_makes_one_run(scene: Scene) -> None:
    task = scene.task()
    image = read_image(scene.catalog, task.image_id)
    again = patiently(lambda: _create_run(scene.keeper, task, image.name or "", f"{task.id}/1"))
    assert again == scene.run_id
