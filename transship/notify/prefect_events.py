"""Notifications as Prefect events, for operators to build automations on.

The names and resource ids are documented in docs/notifications.md and must not change.
Source: Prefect 3.9, "Events" and ``POST /events``.
"""

from __future__ import annotations

from typing import Final

from transship.domain.notification import Notification, Priority

PREFIX: Final = "transship"


def event_of(notification: Notification) -> dict[str, object]:
    """Return the body of an event; it has the same id when sent twice, so Prefect keeps only one.

    The resource is the image, or the task for events of tasks; the rest are related resources.
    """
    image, task = _image(notification), _task(notification)
    about_task = notification.event_type.startswith("task.")
    failed = ".error" if notification.priority is Priority.ERROR else ""
    related = [
        *([_related("image", image)] if about_task else []),
        *([_related("task", task)] if task and not about_task else []),
        *([_related("store", _resource("store", notification.store))] if notification.store else []),
        *([_related("flow-run", _flow_run(notification.flow_run_id))] if notification.flow_run_id else []),
    ]
    text = notification.payload if isinstance(notification.payload, str) else None
    return {
        "id": notification.message_id,
        "event": f"{PREFIX}.{notification.event_type}{failed}",
        "occurred": notification.occurred_at.isoformat(),
        "resource": task if about_task and task else image,
        "related": related,
        "payload": {"message": text} if text is not None else dict(notification.payload),  # type: ignore[arg-type]  # not text here
    }


def _image(notification: Notification) -> dict[str, str]:
    resource = _resource("image", notification.image_id)
    payload = notification.payload
    if not isinstance(payload, str) and not notification.event_type.startswith("task."):
        name, status = payload.get("name"), payload.get("status")
        resource |= {"prefect.resource.name": str(name or notification.image_id), f"{PREFIX}.status": str(status)}
        if payload.get("owner"):
            resource[f"{PREFIX}.project"] = str(payload["owner"])
    return resource


def _task(notification: Notification) -> dict[str, str]:
    if notification.task_id is None:
        return {}
    resource = _resource("task", notification.task_id)
    if notification.event_type.startswith("task.") and not isinstance(notification.payload, str):
        resource[f"{PREFIX}.status"] = str(notification.payload.get("status"))
    return resource


def _resource(kind: str, id_: str) -> dict[str, str]:
    return {"prefect.resource.id": f"{PREFIX}.{kind}.{id_}"}


def _flow_run(flow_run_id: str) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"}


def _related(role: str, resource: dict[str, str]) -> dict[str, str]:
    return {"prefect.resource.role": role, **resource}
