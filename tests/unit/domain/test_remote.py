"""An image in another Glance: its name in a request, its URL, and what is used from its record."""

from __future__ import annotations

from typing import Any

import pytest

from transship.domain.errors import BadRequest, RemoteRefused, RemoteUnusable
from transship.domain.remote import RemoteAccess, RemoteImage, image_url, judge_remote, parse_remote

ID = "0d6e0c02-2a5e-4c53-9a35-3a4ad6ee1b0f"
IMAGE = RemoteImage(ID, "RegionTwo")
RECORD: dict[str, Any] = {
    "id": ID,
    "status": "active",
    "size": 7,
    "disk_format": "qcow2",
    "container_format": "bare",
    "checksum": "ABCD",
    "os_hash_algo": "sha512",
    "os_hash_value": "EF01",
}
ALGORITHMS = ("md5", "sha256", "sha512")


def test_a_request_names_region_and_image_and_the_public_interface_by_default() -> None:
    method = {"name": "glance-download", "glance_region": " RegionTwo ", "glance_image_id": ID.replace("-", "").upper()}
    assert parse_remote(method) == RemoteImage(ID, "RegionTwo", "public")
    assert parse_remote({**method, "glance_service_interface": "internal"}).interface == "internal"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"glance_region": None}, "glance_region"),
        ({"glance_region": "  "}, "glance_region"),
        ({"glance_region": ["RegionTwo"]}, "glance_region"),
        ({"glance_image_id": None}, "glance_image_id"),
        ({"glance_image_id": 7}, "glance_image_id"),
        ({"glance_image_id": f"{ID}/../x"}, "does not look like a UUID"),
        ({"glance_service_interface": None}, "glance_service_interface"),
        ({"glance_service_interface": ["public"]}, "glance_service_interface"),
    ],
)
def test_a_request_that_names_none_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        parse_remote({"glance_region": "RegionTwo", "glance_image_id": ID, **changes})


@pytest.mark.parametrize(
    "endpoint", ["http://g.test:9292", "http://g.test:9292/", "http://g.test:9292/v2", "http://g.test:9292/v2.17/"]
)
def test_an_endpoint_may_end_with_the_version(endpoint: str) -> None:
    assert image_url(endpoint, ID) == f"http://g.test:9292/v2/images/{ID}"
    assert image_url("https://g.test/image/v2", ID) == f"https://g.test/image/v2/images/{ID}"


def test_access_survives_being_kept_and_hides_the_token() -> None:
    access = RemoteAccess(IMAGE, "http://g.test", "", "hush")
    assert RemoteAccess.from_text(access.to_text()) == access
    assert "hush" not in repr(access)


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, ("sha512", "ef01")),
        ({"os_hash_algo": "shake_128"}, ("md5", "abcd")),
        ({"os_hash_value": None}, ("md5", "abcd")),
        ({"os_hash_algo": None, "os_hash_value": None, "checksum": None}, None),
        ({"os_hash_algo": 7, "checksum": ""}, None),
    ],
)
def test_the_strongest_digest_that_can_be_computed_here_counts(
    changes: dict[str, object], digest: tuple[str, str] | None
) -> None:
    assert judge_remote(IMAGE, {**RECORD, **changes}, (), ALGORITHMS).digest == digest


@pytest.mark.parametrize(
    ("prefixes", "taken"),
    [
        (("hw_",), {"hw_x"}),
        (("foo", "hw_"), {"foo", "foot", "hw_x"}),
        ((), set()),
        (("os_", "size", "status", "checksum", "file"), {"os_distro"}),
        (("",), {"hw_x", "foo", "foot", "os_distro", "trait:A"}),
    ],
)
def test_properties_are_taken_by_their_beginnings_and_never_attributes_or_the_services_own(
    prefixes: tuple[str, ...], taken: set[str]
) -> None:
    extra = {"hw_x": "1", "foo": "2", "foot": "3", "os_distro": "d", "os_glance_y": "no", "trait:A": "required"}
    odd = {"hw_" + "x" * 300: "long", "hw_null": None, "hw_number": 7}
    facts = judge_remote(IMAGE, {**RECORD, **extra, **odd}, prefixes, ALGORITHMS)
    assert set(facts.properties) == taken


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "not its record"),
        ([], "not its record"),
        ({**RECORD, "id": "another"}, "not its record"),
        ({**RECORD, "status": "queued"}, "it is queued, not active"),
        ({**RECORD, "size": None}, "no size"),
        ({**RECORD, "size": "7"}, "no size"),
        ({**RECORD, "size": True}, "no size"),
        ({**RECORD, "size": -1}, "no size"),
        ({**RECORD, "disk_format": None}, "no formats"),
        ({**RECORD, "container_format": ""}, "no formats"),
    ],
)
def test_a_record_without_what_an_import_needs_is_refused(body: object, told: str) -> None:
    with pytest.raises(RemoteUnusable, match=told):
        judge_remote(IMAGE, body, (), ALGORITHMS)


@pytest.mark.parametrize(
    ("status", "told"), [(401, "expired"), (403, "may not read"), (404, "no such image"), (418, "check the endpoint")]
)
def test_a_refusal_says_what_to_do(status: int, told: str) -> None:
    text = str(RemoteRefused("RegionTwo", ID, status))
    assert told in text
    assert f"HTTP {status}" in text
