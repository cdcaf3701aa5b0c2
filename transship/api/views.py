"""The representations of images, tasks and stores for clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from transship.domain.image import Image, Member
from transship.domain.methods import ImportMethod
from transship.domain.placement import StoreFacts, best_first
from transship.domain.task import ImportTask


def image_view(
    image: Image, stores: Sequence[StoreFacts], *, locations: bool = False, direct_url: bool = False
) -> dict[str, object]:
    """Return an image as clients see it, with extra properties at the same level as its attributes.

    Args:
        stores: all stores of the site; their weights order the image's.
        locations, direct_url: whether all locations of the data are shown, and the best one.
    """
    where = location_views(image, stores)
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "visibility": image.visibility,
        "protected": image.protected,
        "os_hidden": image.os_hidden,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "owner": image.owner or None,
        "tags": sorted(image.tags),
        "created_at": second(image.created_at),
        "updated_at": second(image.updated_at),
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
        **_of_imports(image),
        **_stores_of(image, stores),
        **({"locations": where} if locations else {}),
        **({"direct_url": where[0]["url"]} if direct_url and where else {}),
    }


def location_views(image: Image, stores: Sequence[StoreFacts]) -> list[dict[str, object]]:
    """Return the locations of an image's data, best first."""
    return [{"url": each.url, "metadata": {"store": each.store}} for each in best_first(image.locations, stores)]


def _of_imports(image: Image) -> dict[str, object]:
    shown = {
        "os_glance_import_task": image.import_task,
        # Clients wait for these two to become empty, so they stay after the first import.
        "os_glance_importing_to_stores": _joined(image.importing_to),
        "os_glance_failed_import": _joined(image.failed_import),
        "os_glance_import_message": image.import_message,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _joined(stores: Sequence[str] | None) -> str | None:
    return None if stores is None else ",".join(sorted(stores))


def _stores_of(image: Image, stores: Sequence[StoreFacts]) -> dict[str, object]:
    if not image.locations:
        return {}
    shown: dict[str, object] = {"stores": ",".join(each.store for each in best_first(image.locations, stores))}
    damaged = [location.store for location in image.locations if location.damage is not None]
    return {**shown, "os_glance_damaged_stores": _joined(damaged)} if damaged else shown


def task_view(task: ImportTask) -> dict[str, object]:
    """Return a task as the list of an image's tasks shows it."""
    return {
        "id": task.id,
        "type": ImportMethod(task.method).facts.task_type,
        "status": task.status,
        "owner": task.owner,
        "created_at": microsecond(task.created_at),
        "updated_at": microsecond(task.updated_at),
        "expires_at": None if task.expires_at is None else microsecond(task.expires_at),
        "deleted": False,
        "deleted_at": None,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "input": task.input,
        "result": task.result,
        "message": task.message,
        "progress": None if task.progress is None else asdict(task.progress),
        "flow_run_id": task.flow_run_id,
    }


def task_summary(task: ImportTask) -> dict[str, object]:
    """Return a task as the list of all tasks shows it."""
    expiry = {} if task.expires_at is None else {"expires_at": second(task.expires_at)}
    return {
        "id": task.id,
        "type": ImportMethod(task.method).facts.task_type,
        "status": task.status,
        "owner": task.owner,
        "created_at": second(task.created_at),
        "updated_at": second(task.updated_at),
        **expiry,
        "self": f"/v2/tasks/{task.id}",
        "schema": "/v2/schemas/task",
    }


def task_record(task: ImportTask) -> dict[str, object]:
    """Return a task as it is shown alone; unknown fields are left out, as in Glance."""
    known = {"image_id": task.image_id, "request_id": task.request_id, "user_id": task.user_id}
    return {
        **task_summary(task),
        **{name: value for name, value in known.items() if value},
        "input": task.input,
        "result": task.result,
        "message": task.message,
    }


def store_view(store: StoreFacts) -> dict[str, object]:
    """Return a store's public description; flags that are false are left out, as in Glance."""
    shown: dict[str, object] = {"id": store.id}
    if store.description:
        shown["description"] = store.description
    if store.default:
        shown["default"] = "true"
    if store.read_only:
        shown["read-only"] = "true"
    return shown


def store_detail_view(store: StoreFacts, properties: Mapping[str, object]) -> dict[str, object]:
    """Return a store's description for operators and services, with the properties of its kind."""
    return {**store_view(store), "type": store.kind, "weight": store.weight, "properties": properties}


def member_view(member: Member) -> dict[str, object]:
    """Return a project that an image is shared with, as clients see it."""
    return {
        "member_id": member.project,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": second(member.created_at),
        "updated_at": second(member.updated_at),
        "schema": "/v2/schemas/member",
    }


def second(moment: datetime) -> str:
    """Return a time as images show it: ``2026-07-01T09:30:00Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def microsecond(moment: datetime) -> str:
    """Return a time as lists of tasks show it: ``2026-07-01T09:30:00.123456``, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
