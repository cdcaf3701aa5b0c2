"""The notifications about images and tasks. Names and payloads are Glance's.

A payload never holds locations, digests by ``os_hash_algo``, or the input, result and message of a task,
because they may be secret.

Source: Glance, "Notifications" in its administrator's guide, and the payloads of its notifier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from transship.domain.errors import AlreadyStored, ImageNotFound, StoreDenied, StoreFull
from transship.domain.image import Image, Member, Visibility
from transship.domain.methods import ImportMethod
from transship.domain.task import ImportTask


class Priority(StrEnum):
    """Severity; the topic's name ends with it in lower case."""

    INFO = "INFO"
    ERROR = "ERROR"


class EventType(StrEnum):
    """What happened."""

    IMAGE_CREATE = "image.create"
    IMAGE_UPDATE = "image.update"
    IMAGE_PREPARE = "image.prepare"
    """Data are about to be written to one store."""
    IMAGE_UPLOAD = "image.upload"
    """Data have been written to one store; with priority ERROR that failed, and the payload is a text."""
    IMAGE_ACTIVATE = "image.activate"
    IMAGE_DELETE = "image.delete"
    MEMBER_CREATE = "image.member.create"
    MEMBER_UPDATE = "image.member.update"
    MEMBER_DELETE = "image.member.delete"
    TASK_CREATE = "task.create"
    TASK_PROCESSING = "task.processing"
    TASK_SUCCESS = "task.success"
    TASK_FAILURE = "task.failure"
    TASK_RUN = "task.run"
    """A task succeeded."""


class SinkName(StrEnum):
    """Destinations of notifications."""

    BUS = "bus"
    """A message bus, through oslo.messaging."""
    LOG = "log"
    """The keeper's log."""
    PREFECT = "prefect"
    """Prefect's events."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification.

    Attributes:
        number: increases with each notification about one image.
        message_id: UUID; the same whenever it is sent again.
        payload: of an image or a task; a text for errors.
        task_id: its task, if any.
        flow_run_id: Prefect's run of that task, if it has one yet.
        store: its store, if any.
        occurred_at: UTC.
    """

    number: int
    message_id: str
    event_type: str
    priority: Priority
    payload: Mapping[str, object] | str
    image_id: str
    occurred_at: datetime
    task_id: str | None = None
    flow_run_id: str | None = None
    store: str | None = None


def image_payload(image: Image) -> dict[str, object]:
    """Return the payload about an image."""
    return {
        "id": image.id,
        "name": image.name,
        "status": str(image.status),
        "created_at": _second(image.created_at),
        "updated_at": _second(image.updated_at),
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "protected": image.protected,
        "checksum": image.checksum,
        "owner": image.owner or None,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "is_public": image.visibility is Visibility.PUBLIC,
        "visibility": str(image.visibility),
        "properties": {**image.properties, **_properties_of_imports(image)},
        "tags": sorted(image.tags),
        "deleted": False,
        "deleted_at": None,
    }


def deleted_image_payload(image: Image, now: datetime) -> dict[str, object]:
    """Return the payload about an image that was just deleted.

    Args:
        image: before the deletion.
    """
    return {**image_payload(image), "status": "deleted", "deleted": True, "deleted_at": _second(now)}


def member_payload(member: Member, deleted_at: datetime | None) -> dict[str, object]:
    """Return the payload about a project that an image is shared with.

    Args:
        deleted_at: when it was removed; None if it was not.
    """
    return {
        "image_id": member.image_id,
        "member_id": member.project,
        "status": str(member.status),
        "created_at": _second(member.created_at),
        "updated_at": _second(member.updated_at),
        "deleted": deleted_at is not None,
        "deleted_at": None if deleted_at is None else _second(deleted_at),
    }


def store_payload(image: Image, store: str) -> dict[str, object]:
    """Return the payload about an image whose data are being, or were, written to a store."""
    return {
        **image_payload(image),
        "backend": store,
        "os_glance_importing_to_stores": list(image.importing_to or ()),
        "os_glance_failed_import": list(image.failed_import or ()),
    }


def task_payload(task: ImportTask, now: datetime) -> dict[str, object]:
    """Return the payload about a task.

    Args:
        now: used as the expiry of an unfinished task, as in Glance.
    """
    return {
        "id": task.id,
        "type": ImportMethod(task.method).facts.task_type,
        "status": str(task.status),
        "result": None,
        "owner": task.owner,
        "message": None,
        "expires_at": _second(task.expires_at or now),
        "created_at": _second(task.created_at),
        "updated_at": _second(task.updated_at),
        "deleted": False,
        "deleted_at": None,
    }


def upload_failure(image_id: str, fault: Exception) -> str:
    """Return the payload of an ``image.upload`` with priority ERROR."""
    match fault:
        case StoreFull():
            return f"Image storage media is full: {fault}"
        case StoreDenied():
            return f"Insufficient permissions on image storage media: {fault}"
        case AlreadyStored():
            return f"Unable to upload duplicate image data for image {image_id}: {fault}"
        case ImageNotFound():
            return f"Image {image_id} could not be found after upload: {fault}"
    return internal_upload_failure(image_id, str(fault))


def internal_upload_failure(image_id: str, reason: str) -> str:
    """Return the text for a failed upload of any other kind."""
    return f"Failed to upload image data for image {image_id} due to internal error: {reason}"


def is_disabled(event_type: str, disabled: Collection[str]) -> bool:
    """Return whether a type, or its group (the beginning of its name), is disabled."""
    return event_type in disabled or event_type.partition(".")[0] in disabled


def message_of(notification: Notification, publisher_id: str) -> dict[str, object]:
    """Return the message in the form of oslo.messaging's notifier."""
    return {
        "message_id": notification.message_id,
        "publisher_id": publisher_id,
        "event_type": notification.event_type,
        "priority": str(notification.priority),
        "payload": notification.payload,
        "timestamp": notification.occurred_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _properties_of_imports(image: Image) -> dict[str, str]:
    lists = {
        "os_glance_importing_to_stores": _joined(image.importing_to),
        "os_glance_failed_import": _joined(image.failed_import),
        "os_glance_import_task": image.import_task,
    }
    return {name: text for name, text in lists.items() if text is not None}


def _joined(stores: Sequence[str] | None) -> str | None:
    return None if stores is None else ",".join(stores)


def _second(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
