"""The contents of notifications."""

from __future__ import annotations

import json

import pytest

from tests.fakes.images import NOW, new_image
from tests.fakes.notifications import notification
from transship.domain.errors import AlreadyStored, ImageNotFound, StoreDenied, StoreFull, StoreUnavailable
from transship.domain.image import ImageStatus, Location, Visibility
from transship.domain.notification import (
    deleted_image_payload,
    image_payload,
    is_disabled,
    message_of,
    store_payload,
    task_payload,
    upload_failure,
)
from transship.domain.task import ImportTask, TaskStatus

STAMP = "2026-01-02T03:04:05Z"


def image(**changes: object):  # type: ignore[no-untyped-def]
    return new_image(
        id="i",
        status=ImageStatus.IMPORTING,
        visibility=Visibility.PUBLIC,
        owner="p",
        properties={"os_distro": "debian"},
        tags=frozenset({"b", "a"}),
        locations=(Location("fast", "s3://bucket/i", 3),),
        os_hash_algo="sha512",
        os_hash_value="ab",
        import_task="t",
        importing_to=("ceph1", "ceph2"),
        failed_import=(),
        import_message="nothing to be told",
        **changes,
    )


def test_an_image_is_told_as_glance_tells_it() -> None:
    assert image_payload(image()) == {
        "id": "i",
        "name": "debian",
        "status": "importing",
        "created_at": STAMP,
        "updated_at": STAMP,
        "min_disk": 0,
        "min_ram": 0,
        "protected": False,
        "checksum": None,
        "owner": "p",
        "disk_format": "raw",
        "container_format": "bare",
        "size": None,
        "virtual_size": None,
        "is_public": True,
        "visibility": "public",
        "properties": {
            "os_distro": "debian",
            "os_glance_importing_to_stores": "ceph1,ceph2",
            "os_glance_failed_import": "",
            "os_glance_import_task": "t",
        },
        "tags": ["a", "b"],
        "deleted": False,
        "deleted_at": None,
    }


def test_neither_locations_nor_reasons_leave() -> None:
    text = json.dumps(store_payload(image(), "fast"))
    assert "s3://" not in text
    assert "nothing to be told" not in text


def test_an_image_that_was_never_imported_has_no_lists_among_its_properties() -> None:
    assert image_payload(new_image())["properties"] == {}


def test_a_store_is_told_with_the_lists_as_lists() -> None:
    told = store_payload(image(), "ceph1")
    assert told["backend"] == "ceph1"
    assert told["os_glance_importing_to_stores"] == ["ceph1", "ceph2"]
    assert told["os_glance_failed_import"] == []


def test_a_deleted_image_says_so() -> None:
    told = deleted_image_payload(image(), NOW)
    assert (told["status"], told["deleted"], told["deleted_at"]) == ("deleted", True, STAMP)


def test_a_task_is_told_without_input_result_and_message() -> None:
    task = ImportTask(
        "t",
        "i",
        "web-download",
        TaskStatus.FAILURE,
        "p",
        NOW,
        NOW,
        input={"import_req": "hush"},
        result={"image_id": "hush"},
        message="hush",
    )
    told = task_payload(task, NOW)
    assert "hush" not in json.dumps(told)
    assert (told["id"], told["type"], told["status"], told["owner"]) == ("t", "api_image_import", "failure", "p")
    assert told["expires_at"] == told["created_at"] == STAMP


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (StoreFull("fast", 9), "Image storage media is full: "),
        (StoreDenied("fast", "no"), "Insufficient permissions on image storage media: "),
        (AlreadyStored("fast", "i"), "Unable to upload duplicate image data for image i: "),
        (ImageNotFound("i"), "Image i could not be found after upload: "),
        (StoreUnavailable("fast", "x"), "Failed to upload image data for image i due to internal error: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_store_is_told_in_glances_words_with_our_reason(fault: Exception, text: str) -> None:
    assert upload_failure("i", fault) == f"{text}{fault}"


@pytest.mark.parametrize(
    ("event_type", "disabled", "expected"),
    [
        ("task.run", ["task"], True),
        ("task.run", ["task.run"], True),
        ("task.run", ["image", "task.create"], False),
        ("image.update", [], False),
    ],
)
def test_a_type_or_its_group_is_disabled(event_type: str, disabled: list[str], expected: bool) -> None:
    assert is_disabled(event_type, disabled) is expected


def test_a_message_has_the_envelope_of_oslo() -> None:
    told = notification(1)
    assert message_of(told, "image.localhost") == {
        "message_id": told.message_id,
        "publisher_id": "image.localhost",
        "event_type": "image.update",
        "priority": "INFO",
        "payload": told.payload,
        "timestamp": "2026-01-02 03:04:05.678900",
    }
