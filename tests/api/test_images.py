"""Create, show, tag and delete images."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from config.settings import QuotaSettings
from tests.fakes.images_api import FORMATS, ApiMaker, ImagesApi
from transship.catalog.endings import fail_import
from transship.catalog.journal import find_location, open_location
from transship.catalog.leases import lease_of
from transship.catalog.tasks import get_task
from transship.domain.task import TaskStatus

SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_create_answers_with_the_image_and_what_the_site_offers(api: ImagesApi) -> None:
    answer = api.client.post(
        "/v2/images", json={"name": "debian", **FORMATS, "os_distro": "debian", "tags": ["b", "a"]}
    )
    assert answer.status_code == 201
    image = answer.json()
    assert answer.headers["location"] == f"{str(api.client.base_url).rstrip('/')}/v2/images/{image['id']}"
    assert answer.headers["openstack-image-import-methods"] == "glance-direct,web-download,copy-image"
    assert answer.headers["openstack-image-store-ids"] == "fast,archive"
    times = [image.pop(name) for name in ("created_at", "updated_at")]
    assert all(SECOND.fullmatch(time) for time in times)
    assert image == {
        "id": image["id"],
        "name": "debian",
        "status": "queued",
        "visibility": "shared",
        "protected": False,
        "os_hidden": False,
        **FORMATS,
        "os_distro": "debian",
        "size": None,
        "virtual_size": None,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "min_disk": 0,
        "min_ram": 0,
        "owner": None,
        "tags": ["a", "b"],
        "self": f"/v2/images/{image['id']}",
        "file": f"/v2/images/{image['id']}/file",
        "schema": "/v2/schemas/image",
    }


def test_a_kernel_is_an_image_or_none(api: ImagesApi) -> None:
    kernel = "00000000-0000-4000-8000-000000000001"
    image_id = api.create(kernel_id=kernel, ramdisk_id=None)
    shown = api.image(image_id)
    assert (shown["kernel_id"], "ramdisk_id" in shown) == (kernel, False)
    for value in ("vmlinuz", ""):
        assert api.client.post("/v2/images", json={"kernel_id": value}).status_code == 400
    patch = [{"op": "replace", "path": "/kernel_id", "value": None}]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert "kernel_id" not in api.client.patch(f"/v2/images/{image_id}", json=patch, headers=headers).json()


def test_create_takes_an_id_and_an_owner(api: ImagesApi) -> None:
    asked = str(uuid4())
    assert api.create(id=asked.upper(), owner="project-7") == asked
    assert api.image(asked.upper())["owner"] == "project-7"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"disk_format": "floppy"}, 400, "disk_format"),
        ({"container_format": "box"}, 400, "container_format"),
        ({"visibility": "secret"}, 400, "visibility"),
        ({"visibility": None}, 400, "visibility"),
        ({"min_disk": -1}, 400, "min_disk"),
        ({"min_disk": 2**31}, 400, "min_disk"),
        ({"min_ram": "many"}, 400, "min_ram"),
        ({"min_ram": True}, 400, "min_ram"),
        ({"protected": "yes"}, 400, "protected"),
        ({"name": "n" * 256}, 400, "name"),
        ({"name": 7}, 400, "name"),
        ({"id": "seven"}, 400, "id"),
        ({"tags": "a"}, 400, "tags"),
        ({"tags": ["t" * 256]}, 400, "tags/0"),
        ({"os_distro": 7}, 400, "os_distro"),
        ({"os_distro": None}, 400, "os_distro"),
        ({"n" * 256: "x"}, 400, "255"),
        ({"": "x"}, 400, "255"),
        ({"size": "big"}, 400, "size"),
        ({"self": "/x"}, 403, "read-only"),
        ({"file": "/x"}, 403, "read-only"),
        ({"schema": "/x"}, 403, "read-only"),
        ({"stores": "fast"}, 403, "read-only"),
        ({"direct_url": 7}, 403, "read-only"),
        ({"os_glance_x": "y"}, 403, "reserved"),
        ({"os_glance_import_task": "y"}, 403, "reserved"),
        ({"location": "y"}, 403, "reserved"),
        ({"deleted": "y"}, 403, "reserved"),
        ({"locations": []}, 403, "reserved"),
        ({"status": "active"}, 403, "read-only"),
        ({"checksum": "0" * 32}, 403, "read-only"),
        ({"os_hash_value": "0"}, 403, "read-only"),
        ({"size": 7}, 403, "read-only"),
        ({"created_at": "2026-01-01T00:00:00Z"}, 403, "read-only"),
    ],
)
def test_create_refuses_what_an_image_cannot_have(
    api: ImagesApi, body: dict[str, object], status: int, reason: str
) -> None:
    answer = api.client.post("/v2/images", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == status
    assert reason in answer.json()["message"]
    assert api.client.get("/v2/images").json()["images"] == []


def test_an_id_is_never_used_twice(api: ImagesApi) -> None:
    image_id = api.create()
    assert api.client.post("/v2/images", json={"id": image_id}).status_code == 409
    api.client.delete(f"/v2/images/{image_id}")
    assert api.client.post("/v2/images", json={"id": image_id}).status_code == 409


def test_quotas_of_properties_and_tags_hold_at_create_patch_and_tagging(make_api: ApiMaker) -> None:
    api = make_api(quota=QuotaSettings(image_property_quota=1, image_tag_quota=1))
    assert api.client.post("/v2/images", json={"a": "1", "b": "2"}).status_code == 413
    assert api.client.post("/v2/images", json={"tags": ["a", "b"]}).status_code == 413
    image_id = api.create(a="1", tags=["a"])
    patch: list[dict[str, object]] = [{"op": "add", "path": "/b", "value": "2"}]
    assert _patch(api, image_id, patch) == 413
    assert api.client.put(f"/v2/images/{image_id}/tags/b").status_code == 413
    assert api.client.put(f"/v2/images/{image_id}/tags/a").status_code == 204


def test_negative_quotas_are_unlimited(make_api: ApiMaker) -> None:
    api = make_api(quota=QuotaSettings(image_property_quota=-1, image_tag_quota=-1))
    api.create(**{f"p{n}": "x" for n in range(200)}, tags=[str(n) for n in range(200)])


def _patch(api: ImagesApi, image_id: str, patch: list[dict[str, object]]) -> int:
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    return api.client.patch(f"/v2/images/{image_id}", json=patch, headers=headers).status_code


@pytest.mark.parametrize("image_id", ["nothing", "e7f0a1ac-6d0b-4a0e-9d0c-0f6a3f4b9d55", "%00", "é"])
def test_an_unknown_image_is_not_found(api: ImagesApi, image_id: str) -> None:
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/file"),
        ("GET", "/tasks"),
        ("PUT", "/tags/a"),
        ("DELETE", "/tags/a"),
    ]:
        assert api.client.request(method, f"/v2/images/{image_id}{path}").status_code == 404, (method, path)


# --- the view through an import's life ---------------------------------------------------------


def test_the_view_follows_an_import_that_succeeds(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    assert not any(name.startswith("os_glance") or name == "stores" for name in api.image(image_id))
    begun = api.begin(image_id, ("fast", "archive"))
    running = api.image(image_id)
    assert running["status"] == "importing"
    assert running["os_glance_import_task"] == begun.task.id
    assert running["os_glance_importing_to_stores"] == "archive,fast"
    assert running["os_glance_failed_import"] == ""
    other = api.active(b"data", ("fast", "archive"))
    done = api.image(other)
    assert done["status"] == "active"
    assert done["stores"] == "archive,fast"
    assert (done["os_glance_importing_to_stores"], done["os_glance_failed_import"]) == ("", "")
    assert not {"os_glance_import_task", "os_glance_import_message", "os_glance_stage_host"} & done.keys()
    assert done["size"] == 4


def test_the_view_tells_why_an_import_failed(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS)
    begun = api.begin(image_id)
    now = datetime.now(UTC)
    fail_import(api.catalog, begun.lease, "it broke", {}, rerunnable=False, now=now, time_to_live_h=48, rerun_ttl_s=1)
    image = api.image(image_id)
    assert (image["status"], image["os_glance_import_message"]) == ("queued", "it broke")
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "fast")


# --- tags --------------------------------------------------------------------------------------


def test_tags_are_added_once_and_removed_once(api: ImagesApi) -> None:
    image_id = api.create()
    for _ in range(2):
        assert api.client.put(f"/v2/images/{image_id}/tags/bookworm").status_code == 204
    assert api.image(image_id)["tags"] == ["bookworm"]
    assert api.client.delete(f"/v2/images/{image_id}/tags/bookworm").status_code == 204
    assert api.client.delete(f"/v2/images/{image_id}/tags/bookworm").status_code == 404
    assert api.client.put(f"/v2/images/{image_id}/tags/{'t' * 256}").status_code == 400
    assert api.client.delete(f"/v2/images/{image_id}/tags/{'t' * 256}").status_code == 404


# --- delete ------------------------------------------------------------------------------------


def test_delete_removes_record_data_and_journal(api: ImagesApi) -> None:
    image_id = api.active(b"data", ("fast", "archive"))
    answer = api.client.delete(f"/v2/images/{image_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.client.get(f"/v2/images/{image_id}").status_code == 404
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 404
    assert not any((directory / image_id).exists() for directory in api.stores.values())
    with api.catalog.read() as connection:
        assert find_location(connection, image_id, "fast") is None


def test_a_protected_image_is_not_deleted(api: ImagesApi) -> None:
    image_id = api.create(protected=True)
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 403
    assert api.image(image_id)["status"] == "queued"


def test_delete_answers_204_and_leaves_data_that_a_store_keeps_to_housekeeping(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    stored = api.stores["fast"] / image_id
    stored.unlink()
    stored.mkdir()
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    with api.catalog.read() as connection:
        row = find_location(connection, image_id, "fast")
    assert row is not None
    assert row.state == "deleting"


def test_delete_while_a_store_is_not_mounted_leaves_its_copy_to_housekeeping(api: ImagesApi) -> None:
    image_id = api.active(b"data")
    mount, elsewhere = api.stores["fast"], api.stores["fast"].with_name("elsewhere")
    mount.rename(elsewhere)
    mount.mkdir()
    assert api.client.get(f"/v2/images/{image_id}/file").status_code == 503
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    with api.catalog.read() as connection:
        row = find_location(connection, image_id, "fast")
    assert row is not None
    assert row.state == "deleting"
    assert list(mount.iterdir()) == []
    assert (elsewhere / image_id).read_bytes() == b"data"


def test_delete_during_an_import_ends_its_task_and_leaves_the_half_written_copy_to_housekeeping(
    api: ImagesApi,
) -> None:
    image_id = api.create(**FORMATS)
    begun = api.begin(image_id)
    open_location(api.catalog, begun.lease, "fast", f"file://{api.stores['fast']}/{image_id}", datetime.now(UTC))
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    with api.catalog.read() as connection:
        task = get_task(connection, begun.task.id)
        row = find_location(connection, image_id, "fast")
        lease = lease_of(connection, image_id)
    assert (task.status, task.message) == (TaskStatus.FAILURE, "the image was deleted")
    assert row is not None
    assert (row.state, lease.epoch > begun.lease.epoch) == ("deleting", True)
