"""Notifications as events of Prefect."""

from __future__ import annotations

from tests.fakes.notifications import notification
from transship.domain.notification import Priority
from transship.notify.prefect_events import event_of


def test_an_event_of_an_image_names_what_it_is_about() -> None:
    told = notification(
        1,
        event_type="image.prepare",
        payload={"name": "debian", "status": "importing", "owner": "p1"},
        task_id="t",
        store="fast",
        flow_run_id="r",
    )
    assert event_of(told) == {
        "id": told.message_id,
        "event": "transship.image.prepare",
        "occurred": "2026-01-02T03:04:05.678900+00:00",
        "resource": {
            "prefect.resource.id": f"transship.image.{told.image_id}",
            "prefect.resource.name": "debian",
            "transship.status": "importing",
            "transship.project": "p1",
        },
        "related": [
            {"prefect.resource.role": "task", "prefect.resource.id": "transship.task.t"},
            {"prefect.resource.role": "store", "prefect.resource.id": "transship.store.fast"},
            {"prefect.resource.role": "flow-run", "prefect.resource.id": "prefect.flow-run.r"},
        ],
        "payload": {"name": "debian", "status": "importing", "owner": "p1"},
    }


def test_an_event_of_a_task_names_its_image() -> None:
    event = event_of(notification(1, event_type="task.failure", payload={"status": "failure"}, task_id="t"))
    assert event["event"] == "transship.task.failure"
    assert event["resource"] == {"prefect.resource.id": "transship.task.t", "transship.status": "failure"}
    assert [related["prefect.resource.role"] for related in event["related"]] == ["image"]  # type: ignore[attr-defined]


def test_a_failed_store_has_a_name_of_its_own_and_its_text() -> None:
    failed = notification(1, event_type="image.upload", priority=Priority.ERROR, payload="full", store="fast")
    event = event_of(failed)
    assert event["event"] == "transship.image.upload.error"
    assert event["payload"] == {"message": "full"}
    assert event["resource"] == {"prefect.resource.id": f"transship.image.{failed.image_id}"}
