"""web-download: requested through the Images API, from a real web server, into a real store."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.fakes import disk_images
from tests.fakes.asked_imports import AskedImports
from tests.fakes.ports import free_port
from tests.fakes.running_import import location, staging_names
from tests.fakes.web_server import Behaviour, WebServer, answer, cut, raw, redirect, silent, whole
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real

BODY = os.urandom(300_000)
PUBLIC = "http://93.184.215.14/x.img"
"""An address that every default rule accepts; nothing dials it in these tests."""


def assert_freed(imports: AskedImports, image_id: str, *, kept: int = 0) -> None:
    """The image is queued, both lists are final, the reason is in both places, nothing is left, the lock is free."""
    image, task = imports.image(image_id), imports.task(image_id)
    assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.QUEUED, (), ("local",))
    assert (image.checksum, image.size) == (None, None)
    assert task.status is TaskStatus.FAILURE
    assert image.import_message == task.message != ""
    assert len(staging_names(imports.site.settings)) == kept
    assert imports.site.stored() == {}
    assert location(imports.site.catalog, image_id) is None
    assert (imports.lease(image_id), image.import_task) == ("free", None)


def assert_active(imports: AskedImports, image_id: str, body: bytes) -> None:
    image = imports.image(image_id)
    assert (image.status, image.importing_to, image.failed_import) == (ImageStatus.ACTIVE, (), ())
    assert (image.size, image.os_hash_value) == (len(body), hashlib.sha512(body).hexdigest())
    assert imports.task(image_id).status is TaskStatus.SUCCESS
    assert imports.site.stored() == {image_id: body}
    assert staging_names(imports.site.settings) == set()
    assert (imports.lease(image_id), image.import_task) == ("free", None)


def test_row_01_a_refused_address_is_a_400_and_changes_nothing(imports: AskedImports) -> None:
    image_id = imports.create()
    before = imports.image(image_id)
    asked = imports.ask(image_id, "http://169.254.169.254/latest/meta-data")
    assert asked.status_code == 400
    assert "169.254.169.254" in asked.text
    assert imports.image(image_id) == before
    assert imports.tasks(image_id) == []
    assert imports.lease(image_id) == "free"


FAULTS: Mapping[str, tuple[Behaviour, str]] = {
    "HTTP 404": (answer(404), "answered HTTP 404"),
    "HTTP 503": (answer(503), "answered HTTP 503"),
    "refused redirect": (redirect("http://169.254.169.254/latest"), "redirects to a place that is not accepted"),
    "fewer bytes than announced": (cut(BODY, 1000, etag=""), "was truncated"),
    "more bytes than announced": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + BODY), "sent more than"),
    "a reset": (cut(BODY, 1000, etag="", reset=True), "was truncated"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_row_02_a_faulty_source_frees_the_image_with_the_reason(
    imports: AskedImports, server: WebServer, fault: str
) -> None:
    behaviour, reason = FAULTS[fault]
    state, image_id = imports.bring(server.on("/x.img", behaviour))
    assert state.is_failed()
    assert reason in imports.task(image_id).message
    assert_freed(imports, image_id)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_row_02_a_host_that_does_not_talk_frees_the_image_with_the_reason(
    imports: AskedImports, server: WebServer, scheme: str
) -> None:
    imports.site.set(download__connect_timeout_s="2", download__retries="0")
    port = free_port() if scheme == "http" else server.port
    state, image_id = imports.bring(f"{scheme}://127.0.0.1:{port}/x.img")
    assert state.is_failed()
    assert_freed(imports, image_id)


def test_row_02_a_full_staging_frees_the_image_with_the_reason(imports: AskedImports, server: WebServer) -> None:
    imports.site.set(staging__free_floor_bytes=str(1 << 60))
    state, image_id = imports.bring(server.serve("/x.img", BODY))
    assert "staging is full" in str(state.message)
    assert_freed(imports, image_id)


@pytest.mark.parametrize(
    ("first", "kept", "reason"),
    [
        pytest.param(b"", 0, "gave no HTTP answer", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0, "sent 0 bytes/s", id="half of the data"),
        pytest.param(
            b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 9\r\n\r\nhalf',
            1,
            "sent 0 bytes/s",
            id="half, can be continued",
        ),
    ],
)
def test_row_03_a_source_that_falls_silent_frees_the_image_after_the_idle_time(
    imports: AskedImports, server: WebServer, first: bytes, kept: int, reason: str
) -> None:
    imports.site.set(download__idle_timeout_s="1.5", download__retries="0")
    _, image_id = imports.bring(server.on("/x.img", silent(first)))
    assert reason in imports.task(image_id).message
    # What the source lets continue waits for a rerun, for a set time.
    assert_freed(imports, image_id, kept=kept)


def test_row_07_data_that_cannot_be_unpacked_free_the_image_and_leave_nothing(
    imports: AskedImports, server: WebServer
) -> None:
    imports.site.set(imports__plugins="image_decompression")
    state, image_id = imports.bring(server.serve("/x.img.gz", gzip.compress(BODY)[:-9]))
    assert "truncated" in str(state.message)
    assert_freed(imports, image_id)


def not_as_declared(_directory: Path) -> bytes:
    return BODY


def not_convertible(directory: Path) -> bytes:
    disk = disk_images.raw_disk(directory / "disk")
    # Reference counts of a width that no program writes.
    return disk_images.patched(
        disk_images.converted(disk, directory / "qcow2", "qcow2"), 96, struct.pack(">I", 9)
    ).read_bytes()


@pytest.mark.parametrize(
    ("data", "reason"), [(not_as_declared, "declares disk_format"), (not_convertible, "eference count")]
)
def test_row_09_data_that_are_refused_or_cannot_be_converted_free_the_image_and_its_lock_at_once(
    imports: AskedImports, server: WebServer, tmp_path: Path, data: Callable[[Path], bytes], reason: str
) -> None:
    imports.site.set(imports__plugins="image_conversion")
    state, image_id = imports.bring(server.serve("/x.img", data(tmp_path)), disk_format="qcow2")
    assert reason in str(state.message)
    assert_freed(imports, image_id)
    assert imports.ask(image_id, server.url("/x.img")).status_code == 202


def test_row_30_an_unknown_plugin_fails_the_import_and_is_named(imports: AskedImports, server: WebServer) -> None:
    imports.site.set(imports__plugins="image_unpacking")
    state, image_id = imports.bring(server.serve("/x.img", BODY))
    assert "no import plugin is called image_unpacking" in str(state.message)
    assert_freed(imports, image_id)


# --- acceptance cases --------------------------------------------------------------------------


def test_case_25_an_image_at_a_url_becomes_active_with_the_same_bytes(imports: AskedImports, server: WebServer) -> None:
    _, image_id = imports.bring(server.serve("/x.img", BODY))
    assert_active(imports, image_id, BODY)
    shown = imports.shown(image_id)
    assert (shown["os_glance_importing_to_stores"], shown["os_glance_failed_import"]) == ("", "")
    assert imports.api("GET", f"/v2/images/{image_id}/file").content == BODY


def asked(imports: AskedImports, uri: str, **rules: str) -> int:
    """Return the status of an import's request; rules not given are the defaults."""
    defaults = {"allowed_hosts": "", "allowed_ports": "80,443"}
    imports.site.set(**{f"uri__{rule}": text for rule, text in {**defaults, **rules}.items()})
    return imports.ask(imports.create(), uri).status_code


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://93.184.215.14/x.img",
        "http:///x.img",
        "http://93.184.215.14:8080/x.img",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
    ],
)
def test_case_26_addresses_in_disguise_or_out_of_bounds_are_a_400(imports: AskedImports, uri: str) -> None:
    assert asked(imports, uri) == 400


@pytest.mark.parametrize("uri", ["http://localhost/", "http://localhost./", "http://LOCALHOST/"])
def test_case_27_a_disallowed_host_is_a_400_however_it_is_written(imports: AskedImports, uri: str) -> None:
    assert asked(imports, uri, disallowed_hosts="localhost") == 400


def test_case_28_an_address_in_both_lists_of_a_level_is_accepted(imports: AskedImports) -> None:
    lists = {"allowed_hosts": "93.184.215.14", "disallowed_hosts": "93.184.215.14"}
    assert asked(imports, PUBLIC, **lists) == 202


def test_case_29_without_an_allow_list_only_the_disallowed_scheme_is_a_400(imports: AskedImports) -> None:
    lists = {"allowed_schemes": "", "disallowed_schemes": "http"}
    assert asked(imports, PUBLIC, **lists) == 400
    assert asked(imports, PUBLIC.replace("http:", "https:"), **lists) == 202


def test_case_30_a_redirect_to_a_disallowed_host_fails_the_import_and_leaves_nothing(
    imports: AskedImports, server: WebServer
) -> None:
    target = server.serve("/there.img", BODY).replace("127.0.0.1", "localhost")
    state, image_id = imports.bring(server.on("/x.img", redirect(target)))
    assert "redirects to a place that is not accepted" in str(state.message)
    assert server.requests("/there.img") == []
    assert_freed(imports, image_id)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(cut(BODY, len(BODY) - 1, etag=""), id="a length that is not reached"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"), id="chunks without the last"
        ),
    ],
)
def test_case_31_a_server_that_closes_early_fails_the_import_and_leaves_nothing(
    imports: AskedImports, server: WebServer, behaviour: Behaviour
) -> None:
    state, image_id = imports.bring(server.on("/x.img", behaviour))
    assert state.is_failed()
    assert_freed(imports, image_id)


@pytest.mark.parametrize(
    ("uri", "rules", "status"),
    [
        ("http://93.184.215.14:443/x", {}, 202),
        ("http://93.184.215.14/x", {"allowed_ports": "8080"}, 202),
        ("http://93.184.215.14:80/x", {"allowed_ports": "8080"}, 400),
    ],
    ids=["any listed port for any scheme", "no port given", "port not listed"],
)
def test_case_32_only_a_port_that_is_given_is_looked_up(
    imports: AskedImports, uri: str, rules: dict[str, str], status: int
) -> None:
    assert asked(imports, uri, **rules) == status


def test_case_33_a_port_that_is_none_is_a_400(imports: AskedImports) -> None:
    assert asked(imports, "http://93.184.215.14:70000/x") == 400


def test_case_34_the_same_import_succeeds_at_once_after_a_failure(imports: AskedImports, server: WebServer) -> None:
    uri = server.on("/x.img", answer(404), whole(BODY))
    state, image_id = imports.bring(uri)
    assert state.is_failed()
    assert imports.ask(image_id, uri).status_code == 202
    imports.carry(image_id)
    assert_active(imports, image_id, BODY)
    assert [task["status"] for task in imports.tasks(image_id)] == ["success", "failure"]
