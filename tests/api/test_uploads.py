"""``PUT …/stage`` and ``PUT …/file`` on a real socket: what is accepted, what is refused, and what is left behind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from hashlib import md5, sha512
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from config.settings import (
    FormatSettings,
    ImportSettings,
    LeaseSettings,
    StagingSettings,
    UploadSettings,
)
from tasks.sweep import _sweep_staging
from tests.fakes import disk_images
from tests.fakes.disk_images import converted, raw_disk
from tests.fakes.images import NOW
from tests.fakes.images_api import SOURCE, ApiMaker, ImagesApi
from tests.fakes.system import until
from transship.catalog.endings import fail_import
from transship.catalog.imports import begin_import
from transship.catalog.journal import StagedRow, find_location, staged_of_image
from transship.catalog.leases import LeaseState, lease_of, take_lease
from transship.catalog.schema import OUTBOX
from transship.catalog.uploads import end_lost_uploads
from transship.domain.errors import Superseded
from transship.domain.methods import ImportMethod
from transship.host.directories import MARK
from transship.staging.area import StagingArea

RAW = {"disk_format": "raw", "container_format": "bare"}
METHODS = (ImportMethod.GLANCE_DIRECT, ImportMethod.WEB_DOWNLOAD)
DATA = bytes(range(256)) * 4096 * 3 + b"the end"
OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/json"}


@pytest.fixture
def make(make_api: ApiMaker) -> ApiMaker:
    def made(**sections: Any) -> ImagesApi:
        defaults = {
            "imports": ImportSettings(enabled_methods=METHODS),
            "staging": StagingSettings(free_floor_bytes=0),
            "lease": LeaseSettings(ttl_s=3600.0, renew_s=0.05),
        }
        return make_api(**{**defaults, **sections})

    return made


@pytest.fixture
def api(make: ApiMaker) -> ImagesApi:
    return make()


def put(api: ImagesApi, image_id: str, where: str, content: Any, **headers: str) -> httpx.Response:
    return api.client.put(
        f"/v2/images/{image_id}/{where}",
        content=content,
        headers={**OCTETS, **{name.replace("_", "-"): value for name, value in headers.items()}},
    )


def chunked(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


def rows(api: ImagesApi, image_id: str) -> list[StagedRow]:
    with api.catalog.read() as connection:
        return staged_of_image(connection, image_id, api.settings.host_name)


def lease(api: ImagesApi, image_id: str) -> LeaseState:
    with api.catalog.read() as connection:
        return lease_of(connection, image_id)


def in_staging(api: ImagesApi) -> list[str]:
    directory = api.settings.staging_dir
    return sorted(path.name for path in directory.iterdir() if path.name[0] != ".") if directory.exists() else []


def stored(api: ImagesApi, store: str = "fast") -> list[str]:
    directory = api.stores[store]
    return sorted(path.name for path in directory.iterdir() if path.name != MARK)


def assert_queued_and_clean(api: ImagesApi, image_id: str) -> None:
    image = api.image(image_id)
    assert (image["status"], image["size"]) == ("queued", None)
    assert (in_staging(api), rows(api, image_id), lease(api, image_id).state) == ([], [], "free")
    assert [stored(api, store) for store in api.stores] == [[], []]
    assert put(api, image_id, "stage", DATA).status_code == 204


class Slow:
    """An upload that stops half-way until told to continue or to disconnect."""

    def __init__(self, api: ImagesApi, image_id: str, where: str, size: int = len(DATA)) -> None:
        url = urlsplit(str(api.client.base_url))
        self._socket = socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=120)
        head = (
            f"PUT /v2/images/{image_id}/{where} HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self.api, self.image_id = api, image_id

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def arrived(self, status: str) -> None:
        """Wait until the service has begun to receive the data."""
        until(lambda: self.api.image(self.image_id)["status"] == status, 180, "the upload begins")
        until(lambda: in_staging(self.api), 180, "the first bytes arrive")

    def answer(self) -> str:
        """Return the beginning of the answer."""
        with closing(self._socket):
            return self._socket.recv(65536).decode()

    def __del__(self) -> None:
        self._socket.close()

    def break_off(self) -> None:
        self._socket.close()


# --- what is taken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (DATA, {}),
        (DATA, {"x_openstack_image_size": str(len(DATA))}),
        (chunked(DATA[:5], DATA[5 : 1 << 20], DATA[1 << 20 :]), {}),
        (chunked(DATA), {"x_openstack_image_size": str(len(DATA))}),
    ],
    ids=["length", "length and size", "chunked", "chunked and size"],
)
def test_staged_data_wait_for_their_import_with_their_digests(
    api: ImagesApi, content: Any, headers: dict[str, str]
) -> None:
    image_id = api.create(**RAW)
    answer = put(api, image_id, "stage", content, **headers)
    assert (answer.status_code, answer.content) == (204, b"")
    image = api.image(image_id)
    assert (image["status"], image["size"]) == ("uploading", len(DATA))
    assert not [name for name in image if name.startswith("os_glance_stage")]
    [row] = rows(api, image_id)
    assert (row.state, row.size, row.host, row.reserved_bytes) == ("sealed", len(DATA), api.settings.host_name, 0)
    assert row.digests == {"md5": md5(DATA).hexdigest(), "sha512": sha512(DATA).hexdigest()}
    assert in_staging(api) == [row.name]
    assert (api.settings.staging_dir / row.name).read_bytes() == DATA
    assert lease(api, image_id).state == "free"


def test_runs_of_zeros_take_no_room_on_staging(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    data = bytes(8 << 20) + b"x" + bytes(8 << 20)
    assert put(api, image_id, "stage", data).status_code == 204
    [row] = rows(api, image_id)
    path = api.settings.staging_dir / row.name
    assert path.read_bytes() == data
    assert path.stat().st_blocks * 512 < 1 << 20
    assert row.digests == {"md5": md5(data).hexdigest(), "sha512": sha512(data).hexdigest()}


def test_an_image_without_formats_can_be_staged(api: ImagesApi) -> None:
    image_id = api.create()
    assert put(api, image_id, "stage", b"1234567890").status_code == 204
    assert api.image(image_id)["size"] == 10


@pytest.mark.parametrize(
    ("plugins", "data", "known"),
    [
        (("inject_image_metadata", "no_op"), DATA, True),
        (("image_decompression",), DATA, True),
        (("image_decompression",), b"\x1f\x8b\x08" + DATA, False),
    ],
    ids=["only properties", "nothing to unpack", "an archive"],
)
def test_data_that_a_plugin_is_going_to_change_are_not_hashed_on_the_way(
    make: ApiMaker, plugins: tuple[str, ...], data: bytes, known: bool
) -> None:
    api = make(imports=ImportSettings(enabled_methods=METHODS, plugins=plugins))
    image_id = api.create(**RAW)
    assert put(api, image_id, "stage", data).status_code == 204
    assert (rows(api, image_id)[0].digests is not None) is known


def test_uploaded_data_are_in_the_store_at_once(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    assert put(api, image_id, "file", DATA).status_code == 204
    image = api.image(image_id)
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(DATA), len(DATA))
    assert (image["checksum"], image["os_hash_value"]) == (md5(DATA).hexdigest(), sha512(DATA).hexdigest())
    assert image["stores"] == "fast"
    assert api.client.get(f"/v2/images/{image_id}/file").content == DATA
    assert (stored(api), lease(api, image_id).state) == ([image_id], "free")
    assert (in_staging(api), rows(api, image_id)) == ([], [])
    assert put(api, image_id, "file", DATA).status_code == 409


@pytest.mark.parametrize("may_pass", [True, False])
def test_an_upload_supersedes_the_import_that_failed_before_it(api: ImagesApi, *, may_pass: bool) -> None:
    image_id = api.create(**RAW)
    begun = api.begin(image_id, ("fast", "archive"))
    fail_import(
        api.catalog, begun.lease, "no luck", {}, rerunnable=may_pass, now=NOW, time_to_live_h=48, rerun_ttl_s=60.0
    )
    assert api.image(image_id)["os_glance_failed_import"] == "archive,fast"
    assert put(api, image_id, "file", DATA).status_code == 204
    image = api.image(image_id)
    assert (image["stores"], image["os_glance_failed_import"], image["os_glance_importing_to_stores"]) == (
        "fast",
        "",
        "",
    )
    run_id = str(begun.task.flow_run_id)
    with pytest.raises(Superseded):
        begin_import(api.catalog, begun.task.id, run_id, "test", ttl_s=60.0, now=NOW)


def test_the_header_chooses_the_store(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    assert put(api, image_id, "file", DATA, x_image_meta_store="archive").status_code == 204
    assert (api.image(image_id)["stores"], stored(api, "archive")) == ("archive", [image_id])


# --- what is refused before a byte is read -----------------------------------------------------


def test_staging_is_not_found_where_the_method_is_off(make: ApiMaker) -> None:
    api = make(imports=ImportSettings(enabled_methods=(ImportMethod.WEB_DOWNLOAD,)))
    answer = put(api, api.create(**RAW), "stage", DATA)
    assert answer.status_code == 404
    assert "'glance-direct' method is not available at this site." in answer.json()["message"]


@pytest.mark.parametrize("where", ["stage", "file"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_data_of_another_type_are_refused(api: ImagesApi, where: str, content_type: str) -> None:
    image_id = api.create(**RAW)
    assert put(api, image_id, where, DATA, Content_Type=content_type).status_code == 415
    assert_queued_and_clean(api, image_id)


@pytest.mark.parametrize("where", ["stage", "file"])
@pytest.mark.parametrize("size", ["ten", "", "-1", "1.5", "9" * 30])
def test_a_size_that_is_no_number_is_refused(api: ImagesApi, where: str, size: str) -> None:
    image_id = api.create(**RAW)
    assert put(api, image_id, where, DATA, x_openstack_image_size=size).status_code == 400
    assert_queued_and_clean(api, image_id)


@pytest.mark.parametrize("where", ["stage", "file"])
def test_an_unknown_image_is_not_found(api: ImagesApi, where: str) -> None:
    assert put(api, "00000000-0000-4000-8000-000000000000", where, DATA).status_code == 404
    assert put(api, "no-uuid", where, DATA).status_code == 404


def test_staged_data_are_not_replaced(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    put(api, image_id, "stage", DATA)
    before, row = api.image(image_id), rows(api, image_id)
    for where in ("stage", "file"):
        answer = put(api, image_id, where, b"other")
        assert (answer.status_code, "already has staged data" in answer.json()["message"]) == (409, True)
    assert (api.image(image_id), rows(api, image_id)) == (before, row)


@pytest.mark.parametrize("where", ["stage", "file"])
def test_an_active_or_importing_image_takes_no_data(api: ImagesApi, where: str) -> None:
    importing = api.create(**RAW)
    api.client.post(
        f"/v2/images/{importing}/import", json={"method": {"name": "web-download", "uri": SOURCE}}
    ).raise_for_status()
    for image_id in (api.active(b"data"), importing):
        before = api.image(image_id)
        assert put(api, image_id, where, DATA).status_code == 409
        assert api.image(image_id) == before


@pytest.mark.parametrize("missing", ["container_format", "disk_format"])
def test_an_upload_needs_both_formats(api: ImagesApi, missing: str) -> None:
    image_id = api.create(**{name: value for name, value in RAW.items() if name != missing})
    answer = put(api, image_id, "file", DATA)
    assert (answer.status_code, missing in answer.json()["message"]) == (400, True)
    assert_queued_and_clean(api, image_id)


@pytest.mark.parametrize("store", ["tape", "os_glance_staging_store"])
def test_an_upload_into_an_unknown_store_is_refused(api: ImagesApi, store: str) -> None:
    image_id = api.create(**RAW)
    assert put(api, image_id, "file", DATA, x_image_meta_store=store).status_code == 400
    assert_queued_and_clean(api, image_id)


# --- what is refused on the way ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["stage", "file"])
@pytest.mark.parametrize("announced", [len(DATA) - 1, len(DATA) + 1], ids=["more", "fewer"])
def test_data_of_another_length_than_announced_are_refused(api: ImagesApi, where: str, announced: int) -> None:
    image_id = api.create(**RAW)
    answer = put(api, image_id, where, chunked(DATA), x_openstack_image_size=str(announced))
    assert answer.status_code == 400
    assert_queued_and_clean(api, image_id)


def test_an_upload_that_claims_a_larger_disk_than_its_project_may_have_is_refused(
    make: ApiMaker, tmp_path: Path
) -> None:
    caps = {"imports": ImportSettings(enabled_methods=METHODS, virtual_size_cap_bytes=1 << 30)}
    api = make(**caps)
    for size, status in ((1 << 30, 204), ((1 << 30) + 512, 413)):
        disk_images.qemu_img("create", "-f", "qcow2", tmp_path / "blank", str(size))
        image_id = api.create(disk_format="qcow2", container_format="bare")
        answer = put(api, image_id, "file", (tmp_path / "blank").read_bytes())
        assert answer.status_code == status, answer.text
    assert "imports.virtual_size_cap_bytes" in answer.json()["message"]
    assert (api.image(image_id)["status"], in_staging(api), rows(api, image_id)) == ("queued", [], [])


@pytest.mark.parametrize("where", ["stage", "file"])
@pytest.mark.parametrize("content", [DATA, chunked(DATA)], ids=["announced", "found out"])
def test_data_beyond_the_cap_are_too_large(make: ApiMaker, where: str, content: Any) -> None:
    api = make(imports=ImportSettings(enabled_methods=METHODS, image_size_cap_bytes=len(DATA) - 1))
    image_id = api.create(**RAW)
    content = content if isinstance(content, bytes) else chunked(DATA)
    answer = put(api, image_id, where, content)
    assert (answer.status_code, "imports.image_size_cap_bytes" in answer.json()["message"]) == (413, True)
    assert (api.image(image_id)["status"], in_staging(api), rows(api, image_id)) == ("queued", [], [])


@pytest.mark.parametrize("where", ["stage", "file"])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "found out"])
def test_data_that_staging_has_no_room_for_are_too_large(make: ApiMaker, where: str, announced: bool) -> None:
    api = make(staging=StagingSettings(free_floor_bytes=1 << 60))
    image_id = api.create(**RAW)
    answer = put(api, image_id, where, DATA if announced else chunked(DATA))
    assert (answer.status_code, "staging is full" in answer.json()["message"]) == (413, True)
    assert (api.image(image_id)["status"], in_staging(api), rows(api, image_id)) == ("queued", [], [])


def test_a_client_that_sends_nothing_is_given_up(make: ApiMaker) -> None:
    api = make(upload=UploadSettings(idle_timeout_s=2.0))
    image_id = api.create(**RAW)
    slow = Slow(api, image_id, "stage")
    slow.send(DATA[:1000])
    assert slow.answer().startswith("HTTP/1.1 408 ")
    assert_queued_and_clean(api, image_id)


def test_a_client_that_sends_too_slowly_is_given_up(make: ApiMaker) -> None:
    api = make(upload=UploadSettings(min_speed_bytes_per_s=1 << 40, min_speed_window_s=0.2))
    image_id = api.create(**RAW)
    slow = Slow(api, image_id, "stage")

    def trickle() -> bool:
        with suppress(OSError):  # it has been given up already
            slow.send(b"x" * 10)
        return api.image(image_id)["status"] == "queued" and lease(api, image_id).epoch > 1

    until(trickle, 180, "the slow client is given up")
    assert "1099511627776 are required" in slow.answer()
    assert (in_staging(api), lease(api, image_id).state) == ([], "free")


@pytest.mark.parametrize(("where", "status"), [("stage", "uploading"), ("file", "saving")])
def test_a_client_that_goes_away_leaves_nothing(api: ImagesApi, where: str, status: str) -> None:
    image_id = api.create(**RAW)
    slow = Slow(api, image_id, where)
    slow.send(DATA[: 1 << 21])
    slow.arrived(status)
    slow.break_off()
    until(lambda: api.image(image_id)["status"] == "queued", 180, "the upload is given up")
    until(lambda: not rows(api, image_id), 180, "its file is removed")
    assert_queued_and_clean(api, image_id)


@pytest.mark.parametrize("declared", ["qcow2", "vmdk"])
def test_an_upload_in_another_format_is_refused(api: ImagesApi, declared: str) -> None:
    image_id = api.create(disk_format=declared, container_format="bare")
    answer = put(api, image_id, "file", DATA)
    assert (answer.status_code, "its data are raw" in answer.json()["message"]) == (415, True)
    assert_queued_and_clean(api, image_id)


@pytest.mark.parametrize(
    ("declared", "qemu_format"), [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vdi", "vdi"), ("vhd", "vpc")]
)
def test_an_upload_that_was_cut_short_is_refused(
    api: ImagesApi, declared: str, qemu_format: str, tmp_path: Path
) -> None:
    whole = converted(raw_disk(tmp_path / "disk"), tmp_path / "made", qemu_format).read_bytes()
    for part in (whole[:512], whole[: len(whole) // 3]):
        image_id = api.create(disk_format=declared, container_format="bare")
        answer = put(api, image_id, "file", part)
        assert (answer.status_code, "cut short" in answer.json()["message"]) == (415, True)
        assert_queued_and_clean(api, image_id)
        assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    assert put(api, api.create(disk_format=declared, container_format="bare"), "file", whole).status_code == 204


def test_the_sites_rules_of_formats_hold_for_uploads(make: ApiMaker) -> None:
    api = make(formats=FormatSettings(require_match=False))
    image_id = api.create(disk_format="qcow2", container_format="bare")
    assert put(api, image_id, "file", DATA).status_code == 204


def test_an_object_that_is_not_ours_stays(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    (api.stores["fast"] / image_id).write_bytes(b"a Glance's")
    assert put(api, image_id, "file", DATA).status_code == 409
    assert (api.stores["fast"] / image_id).read_bytes() == b"a Glance's"
    assert (api.image(image_id)["status"], in_staging(api)) == ("queued", [])
    with api.catalog.read() as connection:
        assert find_location(connection, image_id, "fast") is None


@pytest.mark.parametrize("instead", [Path.touch, Path.mkdir, lambda _: None], ids=["file", "empty", "nothing"])
def test_a_store_that_is_not_mounted_is_said(api: ImagesApi, instead: Callable[[Path], object]) -> None:
    image_id = api.create(**RAW)
    api.stores["fast"].rename(api.stores["fast"].with_name("elsewhere"))
    instead(api.stores["fast"])
    assert put(api, image_id, "file", DATA).status_code == 503
    assert (api.image(image_id)["status"], in_staging(api)) == ("queued", [])
    with api.catalog.read() as connection:
        assert find_location(connection, image_id, "fast") is None


# --- together with others ----------------------------------------------------------------------


@pytest.mark.parametrize(("where", "status"), [("stage", "uploading"), ("file", "saving")])
def test_an_image_that_is_deleted_meanwhile_is_gone(api: ImagesApi, where: str, status: str) -> None:
    image_id = api.create(**RAW)
    slow = Slow(api, image_id, where)
    slow.send(DATA[: 1 << 21])
    slow.arrived(status)
    assert api.client.delete(f"/v2/images/{image_id}").status_code == 204
    assert slow.answer().startswith("HTTP/1.1 410 ")
    assert (in_staging(api), rows(api, image_id), stored(api)) == ([], [], [])
    assert api.client.get(f"/v2/images/{image_id}").status_code == 404


@pytest.mark.parametrize(("where", "status"), [("stage", "uploading"), ("file", "saving")])
def test_nobody_else_touches_an_image_while_its_data_arrive(api: ImagesApi, where: str, status: str) -> None:
    image_id = api.create(**RAW)
    slow = Slow(api, image_id, where)
    slow.send(DATA[: 1 << 21])
    slow.arrived(status)
    for other in ("stage", "file"):
        assert put(api, image_id, other, b"other").status_code == 409
    for method in ({"name": "glance-direct"}, {"name": "web-download", "uri": SOURCE}):
        assert api.client.post(f"/v2/images/{image_id}/import", json={"method": method}).status_code == 409
    slow.send(DATA[1 << 21 :])
    assert slow.answer().startswith("HTTP/1.1 204 ")
    assert api.image(image_id)["size"] == len(DATA)


def test_many_uploads_at_once_all_arrive(api: ImagesApi) -> None:
    images = [api.create(**RAW) for _ in range(12)]
    answers: dict[str, int] = {}

    def stage(image_id: str) -> None:
        answers[image_id] = put(api, image_id, "stage", chunked(image_id.encode(), DATA)).status_code

    threads = [threading.Thread(target=stage, args=(image_id,)) for image_id in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(images, 204)
    for image_id in images:
        assert (api.settings.staging_dir / rows(api, image_id)[0].name).read_bytes() == image_id.encode() + DATA


# --- uploads whose process died ----------------------------------------------------------------


def lost_upload(api: ImagesApi, image_id: str) -> Slow:
    """Begin an upload, and take its lease as the clock does when a process is gone; the file stays open."""
    slow = Slow(api, image_id, "stage")
    slow.send(DATA[: 1 << 21])
    slow.arrived("uploading")
    with api.catalog.write() as connection:
        take_lease(connection, image_id, None, "the dead", -1.0)
    return slow


def test_the_keeper_frees_an_image_whose_upload_died(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    slow = lost_upload(api, image_id)
    assert end_lost_uploads(api.catalog, NOW) == [image_id]
    assert end_lost_uploads(api.catalog, NOW) == []
    assert api.image(image_id)["status"] == "queued"
    with api.catalog.read() as connection:
        assert [row.kind for row in connection.execute(OUTBOX.select())] == ["sweep"]
    assert slow.answer().startswith("HTTP/1.1 409 ")
    # What it left, if it gave up first, is scrap for housekeeping.
    settings = api.settings
    _sweep_staging(
        api.catalog, StagingArea(settings.staging_dir, settings.host_name, settings.staging.free_floor_bytes)
    )
    assert_queued_and_clean(api, image_id)


def test_the_next_upload_takes_over_from_one_that_died(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    slow = lost_upload(api, image_id)
    assert put(api, image_id, "stage", DATA).status_code == 204
    assert slow.answer().startswith("HTTP/1.1 409 ")
    # What the other one left, if it gave up first, is scrap for housekeeping.
    [row] = [row for row in rows(api, image_id) if row.state != "scrap"]
    assert (api.settings.staging_dir / row.name).read_bytes() == DATA


def test_an_import_that_is_asked_for_after_an_upload_died_changes_nothing(api: ImagesApi) -> None:
    image_id = api.create(**RAW)
    slow = lost_upload(api, image_id)
    answer = api.client.post(f"/v2/images/{image_id}/import", json={"method": {"name": "glance-direct"}})
    assert answer.status_code == 409
    assert lease(api, image_id).expired
    slow.answer()
    assert put(api, image_id, "stage", DATA).status_code == 204
