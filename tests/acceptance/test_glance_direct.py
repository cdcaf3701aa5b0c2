"""glance-direct: staged and requested through the Images API, imported by the flow into real stores."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from flows.housekeeping import housekeeping
from tests.fakes import disk_images
from tests.fakes.asked_imports import AskedImports
from tests.fakes.running_import import location, staging_names
from transship.catalog.hosts import note_host
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus
from transship.keeper.dispatch import queue_of
from transship.keeper.keeper import Keeper
from transship.keeper.prefect_api import PrefectApi

pytestmark = pytest.mark.real

BODY = os.urandom(300_000)


def staged(imports: AskedImports, data: bytes = BODY, **attributes: object) -> str:
    """Create an image and stage its data; return its id."""
    image_id = imports.create(**attributes)
    answer = imports.stage(image_id, data)
    assert answer.status_code == 204, answer.text
    return image_id


def brought(imports: AskedImports, image_id: str, **body: object) -> str:
    """Request and run the import of staged data; return its final message."""
    asked = imports.ask_direct(image_id, **body)
    assert (asked.status_code, asked.content) == (202, b""), asked.text
    return str(imports.carry(image_id).message)


def assert_active(imports: AskedImports, image_id: str, body: bytes, *stores: str) -> None:
    image, task = imports.image(image_id), imports.task(image_id)
    assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.ACTIVE, (), ())
    assert (image.size, image.os_hash_value) == (len(body), hashlib.sha512(body).hexdigest())
    assert image.checksum == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert (task.status, task.result) == (TaskStatus.SUCCESS, {"image_id": image_id})
    for store in stores or ("local",):
        assert imports.site.stored(store) == {image_id: body}
    assert staging_names(imports.site.settings) == set()
    assert (imports.lease(image_id), image.import_task) == ("free", None)


def assert_failed(imports: AskedImports, image_id: str, status: ImageStatus, *stores: str) -> str:
    """The image can be imported again, both lists are final, no store has it, the lock is free; return the reason."""
    image, task = imports.image(image_id), imports.task(image_id)
    targets = stores or ("local",)
    assert (image.status, image.importing_to, image.failed_import) == (status, (), tuple(sorted(targets)))
    assert (image.checksum, image.os_hash_value, image.virtual_size) == (None, None, None)
    assert task.status is TaskStatus.FAILURE
    assert image.import_message == task.message != ""
    for store in imports.site.settings.all_stores:
        assert imports.site.stored(store) == {}
        assert location(imports.site.catalog, image_id, store) is None
    kept = status is ImageStatus.UPLOADING
    assert len(staging_names(imports.site.settings)) == int(kept)
    assert (image.size is not None) is kept
    assert (imports.lease(image_id), image.import_task) == ("free", None)
    return task.message


@pytest.fixture
def two_stores(imports: AskedImports) -> Path:
    """Stores ``good`` and ``bad``; ``bad`` is below a regular file until that is removed."""
    home = imports.site.home
    blocker = home / "blocked"
    blocker.touch()
    stores = {"good": {"dir": str(home / "good")}, "bad": {"dir": str(blocker / "bad")}}
    imports.site.set(stores=json.dumps(stores), default_store="good")
    return blocker


# --- failure cases -----------------------------------------------------------------------------


def test_row_06_an_archive_that_cannot_be_unpacked_is_removed_and_can_be_staged_anew(imports: AskedImports) -> None:
    imports.site.set(imports__plugins="image_decompression")
    packed = gzip.compress(BODY)
    image_id = staged(imports, packed[: len(packed) // 2])
    brought(imports, image_id)
    assert "the gzip file cannot be unpacked" in assert_failed(imports, image_id, ImageStatus.QUEUED)
    assert imports.stage(image_id, packed).status_code == 204
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)


def test_row_08_data_that_are_not_what_was_declared_are_removed_and_the_image_is_queued(
    imports: AskedImports, tmp_path: Path
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    image_id = staged(imports, disk_format="qcow2")
    brought(imports, image_id)
    assert "its data are raw" in assert_failed(imports, image_id, ImageStatus.QUEUED)
    disk = disk_images.raw_disk(tmp_path / "disk.raw")
    good = disk_images.converted(disk, tmp_path / "disk.qcow2", "qcow2").read_bytes()
    assert imports.stage(image_id, good).status_code == 204
    brought(imports, image_id)
    assert_active(imports, image_id, disk.read_bytes())


def test_row_10_a_property_is_injected_by_the_system_whatever_the_caller_may(imports: AskedImports) -> None:
    imports.site.set(
        imports__plugins="inject_image_metadata",
        inject__properties=json.dumps({"site_note": "checked"}),
        inject__ignore_user_roles="",
    )
    image_id = staged(imports)
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)
    assert imports.shown(image_id)["site_note"] == "checked"


def test_row_11_when_a_store_fails_the_upload_is_kept_and_imported_again_without_another_one(
    imports: AskedImports, two_stores: Path
) -> None:
    image_id = staged(imports)
    brought(imports, image_id, stores=["good", "bad"])
    assert "store bad" in assert_failed(imports, image_id, ImageStatus.UPLOADING, "good", "bad")
    two_stores.unlink()
    imports.site.deploy()
    brought(imports, image_id, stores=["good", "bad"])
    assert_active(imports, image_id, BODY, "good", "bad")


def test_row_12_after_a_conversion_too_the_upload_is_kept_and_converted_again(
    imports: AskedImports, two_stores: Path, tmp_path: Path
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    disk = disk_images.raw_disk(tmp_path / "disk.raw")
    data = disk_images.converted(disk, tmp_path / "disk.qcow2", "qcow2").read_bytes()
    image_id = staged(imports, data, disk_format="qcow2")
    brought(imports, image_id, stores=["good", "bad"])
    assert "store bad" in assert_failed(imports, image_id, ImageStatus.UPLOADING, "good", "bad")
    assert imports.image(image_id).disk_format == "qcow2"
    two_stores.unlink()
    imports.site.deploy()
    brought(imports, image_id, stores=["good", "bad"])
    assert_active(imports, image_id, disk.read_bytes(), "good", "bad")
    assert imports.image(image_id).disk_format == "raw"


def test_row_16_when_every_store_fails_the_upload_is_kept_though_each_was_allowed_to(
    imports: AskedImports, two_stores: Path
) -> None:
    image_id = staged(imports)
    brought(imports, image_id, stores=["bad"], all_stores_must_succeed=False)
    assert_failed(imports, image_id, ImageStatus.UPLOADING, "bad")
    two_stores.unlink()
    imports.site.deploy()
    brought(imports, image_id, stores=["bad"], all_stores_must_succeed=False)
    assert_active(imports, image_id, BODY, "bad")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"imports__image_size_cap_bytes": "1000"}, "imports.image_size_cap_bytes"),
        ({"staging__free_floor_bytes": str(1 << 60)}, "staging is full"),
    ],
    ids=["too large", "staging full"],
)
def test_row_24_data_that_are_too_large_or_find_no_room_are_a_413_and_leave_nothing(
    imports: AskedImports, options: dict[str, str], reason: str
) -> None:
    image_id = imports.create()
    imports.site.set(**options)
    answer = imports.stage(image_id, BODY)
    assert (answer.status_code, reason in answer.json()["message"]) == (413, True)
    assert_untouched(imports, image_id)


@pytest.mark.parametrize("announced", [len(BODY) - 1, len(BODY) + 1], ids=["more bytes", "fewer bytes"])
def test_row_25_data_of_another_length_than_announced_are_a_400_and_leave_nothing(
    imports: AskedImports, announced: int
) -> None:
    image_id = imports.create()
    assert imports.stage(image_id, BODY, **{"x-openstack-image-size": str(announced)}).status_code == 400
    assert_untouched(imports, image_id)


def assert_untouched(imports: AskedImports, image_id: str) -> None:
    """An upload left nothing behind: no task, no file, no lock; the image is queued."""
    image = imports.image(image_id)
    assert (image.status, image.size, image.importing_to, image.failed_import) == (ImageStatus.QUEUED, None, None, None)
    assert (imports.tasks(image_id), staging_names(imports.site.settings)) == ([], set())
    assert imports.lease(image_id) == "free"


def test_row_26_staged_data_are_not_replaced_and_stay_importable(imports: AskedImports) -> None:
    image_id = staged(imports)
    assert imports.stage(image_id, b"other").status_code == 409
    assert imports.image(image_id).status is ImageStatus.UPLOADING
    assert (imports.tasks(image_id), imports.lease(image_id)) == ([], "free")
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)


def test_row_36_an_import_is_a_504_while_the_staging_host_is_down_and_the_image_can_be_deleted(
    imports: AskedImports,
) -> None:
    image_id, other = staged(imports), staged(imports)
    imports.site.set(host_name="there")
    host_is(imports, "here", alive=False)
    answer = imports.ask_direct(image_id)
    assert (answer.status_code, "Stage host is unavailable" in answer.text) == (504, True)
    assert imports.image(image_id).status is ImageStatus.UPLOADING
    assert (imports.tasks(image_id), imports.lease(image_id)) == ([], "free")
    assert imports.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    assert imports.api("GET", f"/v2/images/{image_id}").status_code == 404
    host_is(imports, "here", alive=True)
    imports.site.set(host_name="here")
    housekeeping()
    assert [name[:36] for name in staging_names(imports.site.settings)] == [other]
    brought(imports, other)
    assert_active(imports, other, BODY)


def test_row_36_data_on_a_host_that_is_gone_can_be_staged_anew_and_the_old_ones_go_when_it_is_back(
    imports: AskedImports,
) -> None:
    image_id = staged(imports, b"out of reach")
    (former,) = staging_names(imports.site.settings)
    host_is(imports, "here", alive=True)
    imports.site.set(host_name="there")
    assert imports.stage(image_id, BODY).status_code == 409
    host_is(imports, "here", alive=False)
    assert imports.ask_direct(image_id).status_code == 504
    assert imports.stage(image_id, BODY).status_code == 204
    assert former in staging_names(imports.site.settings)
    imports.site.set(host_name="here")
    housekeeping()
    assert former not in staging_names(imports.site.settings)
    imports.site.set(host_name="there")
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)


def host_is(imports: AskedImports, host: str, *, alive: bool) -> None:
    with imports.site.catalog.write() as connection:
        note_host(connection, host, 4, heard_s_ago=0.0 if alive else 3600.0)


# --- acceptance cases --------------------------------------------------------------------------


def test_case_17_data_in_chunks_make_the_image_uploading_with_their_size(imports: AskedImports) -> None:
    image_id = imports.create()
    answer = imports.api(
        "PUT",
        f"/v2/images/{image_id}/stage",
        content=iter([b"12345", b"67890"]),
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert (answer.status_code, answer.content) == (204, b"")
    shown = imports.shown(image_id)
    assert (shown["status"], shown["size"]) == ("uploading", 10)


def test_case_18_fewer_bytes_than_announced_are_a_400_without_residue(imports: AskedImports) -> None:
    image_id = imports.create()
    assert imports.stage(image_id, b"1234567890", **{"x-openstack-image-size": "20"}).status_code == 400
    assert_untouched(imports, image_id)


def test_case_19_staging_is_not_found_while_the_method_is_disabled(imports: AskedImports) -> None:
    image_id = imports.create()
    imports.site.set(imports__enabled_methods="web-download")
    assert imports.stage(image_id, BODY).status_code == 404
    assert imports.ask_direct(image_id).status_code == 400
    assert_untouched(imports, image_id)


def test_case_20_data_of_another_content_type_are_a_415(imports: AskedImports) -> None:
    image_id = imports.create()
    assert imports.stage(image_id, b"{}", **{"Content-Type": "application/json"}).status_code == 415
    assert_untouched(imports, image_id)


def test_case_21_staged_data_become_the_image(imports: AskedImports) -> None:
    image_id = staged(imports)
    assert brought(imports, image_id) == "imported to local"
    assert_active(imports, image_id, BODY)
    shown = imports.shown(image_id)
    assert (shown["os_glance_importing_to_stores"], shown["os_glance_failed_import"]) == ("", "")
    [task] = imports.tasks(image_id)
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id})
    assert task["input"]["import_req"] == {"method": {"name": "glance-direct"}}


def test_case_22_staging_twice_is_a_409(imports: AskedImports) -> None:
    image_id = staged(imports)
    answer = imports.stage(image_id, BODY)
    assert (answer.status_code, "already has staged data" in answer.json()["message"]) == (409, True)


def test_case_23_any_host_takes_the_request_and_the_one_with_the_data_carries_it(imports: AskedImports) -> None:
    image_id = staged(imports)
    imports.site.set(host_name="there", staging__dir=str(imports.site.home / "staging-there"))
    answer = imports.ask_direct(image_id)
    assert answer.status_code == 202
    assert imports.tasks(image_id)[0]["request_id"] == answer.headers["x-openstack-request-id"]
    keeper = Keeper(imports.site.settings, imports.site.catalog, PrefectApi("http://127.0.0.1:1", ""), "keeper")
    assert queue_of(keeper, imports.task(image_id)) == "host-here"
    imports.site.set(host_name="here", staging__dir=str(imports.site.home / "staging"))
    imports.carry(image_id)
    assert_active(imports, image_id, BODY)


def test_case_24_a_uri_beside_glance_direct_is_a_400_and_never_read(imports: AskedImports) -> None:
    image_id = staged(imports)
    method = {"name": "glance-direct", "uri": "http://127.0.0.1:1/x"}
    assert imports.ask_direct(image_id, method=method).status_code == 400
    assert (imports.tasks(image_id), imports.image(image_id).status) == ([], ImageStatus.UPLOADING)
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)


def test_case_55_the_task_names_why_staged_data_cannot_be_unpacked_and_the_image_is_retryable(
    imports: AskedImports,
) -> None:
    imports.site.set(imports__plugins="image_decompression")
    image_id = staged(imports, gzip.compress(BODY)[:-4])
    brought(imports, image_id)
    [task] = imports.tasks(image_id)
    assert (task["status"], "the gzip file cannot be unpacked" in task["message"]) == ("failure", True)
    assert imports.stage(image_id, BODY).status_code == 204
    brought(imports, image_id)
    assert_active(imports, image_id, BODY)
