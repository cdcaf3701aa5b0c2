"""glance-download: requested with a Keystone token, from another region's Glance, into a real store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from config.loading import load_settings
from tests.fakes import disk_images
from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import Keystone
from tests.fakes.remote_imports import BEFORE, REGION, RemoteImports
from tests.fakes.running_import import staging_names
from tests.fakes.web_server import Behaviour, WebServer, answer, cut, raw, redirect, whole
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real

BODY = os.urandom(200_000)


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture
def remotes(imports: AskedImports, keystone: Keystone, server: WebServer) -> RemoteImports:
    return RemoteImports(imports, keystone, server)


@pytest.mark.parametrize(
    ("region", "interface", "reason"),
    [
        ("RegionThree", "public", "no service of type image in region RegionThree; its regions: RegionOne, RegionTwo"),
        (REGION, "admin", "region RegionTwo has no admin endpoint"),
    ],
)
def test_row_04_a_region_or_interface_without_an_endpoint_frees_the_image_with_what_there_is(
    remotes: RemoteImports, region: str, interface: str, reason: str
) -> None:
    state, image_id = remotes.bring(region=region, glance_service_interface=interface)
    assert state.is_failed()
    remotes.assert_freed(image_id, reason)


@pytest.mark.parametrize("status", ["queued", "importing", "deactivated"])
def test_row_04_a_remote_image_that_is_not_active_frees_the_image(remotes: RemoteImports, status: str) -> None:
    _, image_id = remotes.bring(remotes.glance.image(BODY, status=status))
    remotes.assert_freed(image_id, f"it is {status}, not active")


@pytest.mark.parametrize(("status", "reason"), [(401, "token"), (403, "may not read it"), (404, "no such image")])
def test_row_04_a_glance_that_does_not_give_the_record_out_frees_the_image(
    remotes: RemoteImports, server: WebServer, status: int, reason: str
) -> None:
    remote_id = str(uuid4())
    server.on(f"/v2/images/{remote_id}", answer(status))
    _, image_id = remotes.bring(remote_id)
    remotes.assert_freed(image_id, f"HTTP {status}")
    remotes.assert_freed(image_id, reason)


def test_row_05_an_endpoint_that_the_uri_rules_refuse_frees_the_image(remotes: RemoteImports) -> None:
    remotes.imports.site.set(uri__allowed_ports="80,443")
    remote_id = remotes.glance.image(BODY)
    _, image_id = remotes.bring(remote_id)
    remotes.assert_freed(image_id, "allowed_ports")
    assert remotes.glance.asked_for_data(remote_id) == []


FAULTS: dict[str, tuple[Behaviour, str]] = {
    "HTTP 500": (answer(500), "HTTP 500"),
    "HTTP 404": (answer(404), "no such image"),
    "refused redirect": (redirect("http://169.254.169.254/latest"), "redirects to a place that is not accepted"),
    "more bytes than announced": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + BODY), "sent more than"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_row_05_data_that_cannot_be_fetched_free_the_image_and_bring_no_property(
    remotes: RemoteImports, fault: str
) -> None:
    behaviour, reason = FAULTS[fault]
    _, image_id = remotes.bring(remotes.glance.image(BODY, behaviour, hw_disk_bus="virtio"))
    remotes.assert_freed(image_id, reason)


def test_row_05_data_of_another_size_than_the_record_says_free_the_image(remotes: RemoteImports) -> None:
    _, image_id = remotes.bring(remotes.glance.image(BODY, size=len(BODY) + 1))
    remotes.assert_freed(image_id, f"the size of the downloaded data is {len(BODY)}, the source says {len(BODY) + 1}")


def test_row_05_a_cut_is_tried_again_and_goes_on_where_it_was(remotes: RemoteImports) -> None:
    remote_id = remotes.glance.image(BODY, cut(BODY, 50_000, etag=""), whole_of(BODY))
    _, image_id = remotes.bring(remote_id)
    assert remotes.imports.image(image_id).status is ImageStatus.ACTIVE
    assert remotes.glance.asked_for_data(remote_id)[1].headers["range"] == "bytes=50000-"


def whole_of(body: bytes) -> Behaviour:
    return whole(body, etag="")


def test_row_37_a_token_that_expires_on_the_way_frees_the_image_and_a_new_one_imports_it(
    remotes: RemoteImports,
) -> None:
    remote_id = remotes.glance.image(BODY, answer(401), whole_of(BODY))
    state, image_id = remotes.bring(remote_id)
    assert state.is_failed()
    remotes.assert_freed(image_id, "does not accept the token, which has expired")
    token = remotes.new_token()
    assert remotes.ask(image_id, remote_id).status_code == 202
    assert remotes.imports.carry(image_id).is_completed()
    assert remotes.glance.asked_for_data(remote_id)[-1].headers["x-auth-token"] == token
    assert remotes.imports.site.stored() == {image_id: BODY}


def test_case_35_the_method_is_off_by_default(remotes: RemoteImports) -> None:
    remotes.imports.site.environment.delenv("TRANSSHIP_IMPORTS__ENABLED_METHODS")
    image_id = remotes.imports.create()
    refused = remotes.ask(image_id, str(uuid4()))
    assert (refused.status_code, "Unknown import method name" in refused.text) == (400, True)
    methods = remotes.imports.api("GET", "/v2/info/import").json()["import-methods"]["value"]
    assert "glance-download" not in methods


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"glance_image_id": str(uuid4())}, "glance_region"),
        ({"glance_image_id": str(uuid4()), "glance_region": ""}, "glance_region"),
        ({"glance_image_id": str(uuid4()), "glance_region": 7}, "glance_region"),
        ({"glance_region": REGION}, "glance_image_id"),
        ({"glance_region": REGION, "glance_image_id": "golden"}, "does not look like a UUID"),
        (
            {"glance_region": REGION, "glance_image_id": str(uuid4()), "glance_service_interface": "secret"},
            "glance_service_interface",
        ),
    ],
)
def test_case_35_a_request_without_region_or_with_a_bad_id_is_a_400(
    remotes: RemoteImports, method: dict[str, object], reason: str
) -> None:
    image_id = remotes.imports.create()
    body = {"method": {"name": "glance-download", **method}}
    refused = remotes.imports.api("POST", f"/v2/images/{image_id}/import", json=body)
    assert (refused.status_code, reason in refused.text) == (400, True)
    assert remotes.imports.image(image_id).status is ImageStatus.QUEUED
    assert remotes.imports.lease(image_id) == "free"


def test_case_36_formats_and_chosen_properties_come_along_and_those_of_the_service_do_not(
    remotes: RemoteImports, tmp_path: Path
) -> None:
    blank = disk_images.raw_disk(tmp_path / "disk.raw", 2 << 20)
    disk = disk_images.converted(blank, tmp_path / "disk.qcow2", "qcow2").read_bytes()
    remote_id = remotes.glance.image(
        disk, disk_format="qcow2", hw_x="1", hw_disk_bus="virtio", foo="bar", os_glance_y="no", os_distro="debian"
    )
    state, image_id = remotes.bring(remote_id)
    assert state.is_completed(), state.message
    image = remotes.imports.image(image_id)
    assert dict(image.properties) == {**BEFORE, "hw_x": "1", "hw_disk_bus": "virtio", "os_distro": "debian"}
    assert (image.status, image.disk_format, image.container_format) == (ImageStatus.ACTIVE, "qcow2", "bare")
    assert (image.size, image.virtual_size) == (len(disk), 2 << 20)
    assert image.os_hash_value == hashlib.sha512(disk).hexdigest()
    assert (image.importing_to, image.failed_import, remotes.imports.lease(image_id)) == ((), (), "free")
    assert remotes.imports.site.stored() == {image_id: disk}
    assert staging_names(remotes.imports.site.settings) == set()
    task = remotes.imports.tasks(image_id)[0]
    assert task["input"]["import_req"]["method"] == {
        "name": "glance-download",
        "glance_region": REGION,
        "glance_image_id": remote_id,
        "glance_service_interface": "public",
    }


@pytest.mark.parametrize("region", [REGION, "RegionThree"])
def test_case_37_a_wrong_region_or_no_such_image_ends_in_a_failure_with_the_properties_as_they_were(
    remotes: RemoteImports, region: str
) -> None:
    state, image_id = remotes.bring(region=region)
    assert state.is_failed()
    remotes.assert_freed(image_id, "no such image" if region == REGION else "RegionThree")
    shown = remotes.imports.shown(image_id)
    assert (shown["os_glance_importing_to_stores"], shown["os_glance_failed_import"]) == ("", "local")


def test_case_38_the_configured_beginnings_replace_those_of_the_default(remotes: RemoteImports) -> None:
    remotes.imports.site.set(glance_download__extra_properties="foo")
    _, image_id = remotes.bring(remotes.glance.image(BODY, foo="1", foot="2", hw_x="3", os_glance_foo="4"))
    assert dict(remotes.imports.image(image_id).properties) == {**BEFORE, "foo": "1", "foot": "2"}


def test_case_39_the_section_as_the_guide_spells_it_counts_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "glance-image-import.conf"
    file.write_text("[glance_download_opts]\nextra_properties = ['hw_', 'trait:']\n")
    loaded = load_settings(overrides={"glance_config": str(file)}, environ={"TRANSSHIP_HOME": str(tmp_path)})
    assert loaded.settings.glance_download.extra_properties == ("hw_", "trait:")
    assert ["glance_download_properties" in note.text for note in loaded.notes] == [True]


@pytest.mark.parametrize("plugins", ["", "no_op"], ids=["no plugin", "a plugin"])
@pytest.mark.parametrize(
    "digest",
    [
        {"os_hash_value": hashlib.sha512(b"other").hexdigest()},
        {"os_hash_algo": "sha256", "os_hash_value": hashlib.sha256(b"other").hexdigest()},
        {"os_hash_algo": None, "os_hash_value": None, "checksum": "0" * 32},
    ],
    ids=["sha512", "sha256", "md5 alone"],
)
def test_case_40_other_bytes_than_the_remote_digest_says_never_become_active(
    remotes: RemoteImports, digest: dict[str, object], plugins: str
) -> None:
    remotes.imports.site.set(imports__plugins=plugins)
    state, image_id = remotes.bring(remotes.glance.image(BODY, **digest))
    assert state.is_failed()
    remotes.assert_freed(image_id, "of the downloaded data is")
    assert remotes.imports.task(image_id).status is TaskStatus.FAILURE


DAMAGED = {
    "other bytes": BODY[:-1] + bytes([BODY[-1] ^ 1]),
    "fewer bytes": BODY[:-1],
    "more bytes": BODY + b"x",
}


@pytest.mark.parametrize("plugins", ["", "no_op"], ids=["no plugin", "a plugin"])
@pytest.mark.parametrize("first", DAMAGED.values(), ids=DAMAGED.keys())
def test_case_40_bytes_that_differ_from_the_remote_record_are_fetched_once_more(
    remotes: RemoteImports, first: bytes, plugins: str
) -> None:
    remotes.imports.site.set(imports__plugins=plugins)
    remote_id = remotes.glance.image(BODY, whole_of(first), whole_of(BODY))
    state, image_id = remotes.bring(remote_id)
    assert state.is_completed(), state.message
    assert remotes.imports.site.stored() == {image_id: BODY}
    assert [asked.headers.get("range") for asked in remotes.glance.asked_for_data(remote_id)] == [None, None]


def test_case_40_bytes_that_differ_twice_are_not_fetched_a_third_time(remotes: RemoteImports) -> None:
    remote_id = remotes.glance.image(BODY, os_hash_value=hashlib.sha512(b"other").hexdigest())
    remotes.bring(remote_id)
    assert len(remotes.glance.asked_for_data(remote_id)) == 2


def test_case_40_a_checksum_that_only_the_answer_names_counts(remotes: RemoteImports) -> None:
    wrong = whole(BODY, etag="", headers={"Content-MD5": hashlib.md5(b"other").hexdigest()})
    record = {"os_hash_algo": None, "os_hash_value": None, "checksum": None}
    _, image_id = remotes.bring(remotes.glance.image(BODY, wrong, **record))
    remotes.assert_freed(image_id, "the md5 of the downloaded data is")
