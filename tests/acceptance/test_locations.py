"""Locations that clients register: the data stay where they are, and a task makes the image active with them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import SERVICE_PASSWORD, SERVICE_USER, Keystone
from tests.fakes.web_server import WebServer, answer, only_sized
from transship.catalog.journal import find_location
from transship.domain.image import ImageStatus
from transship.domain.methods import OFFERED

pytestmark = pytest.mark.real

BODY = os.urandom(3 * 1024 * 1024 + 5)
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
PATH = "/pool/noble.img"
DIGESTS = {name: hashlib.new(name, BODY, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256")}
DIGESTS["sha512"] = hashlib.sha512(BODY).hexdigest()
WRONG = "0" * 128


class Locations:
    """A site with the file store ``local`` and the http store ``web``, a Keystone, and a member of a project.

    Attributes:
        url: of an image on the web server.
    """

    def __init__(self, imports: AskedImports, keystone: Keystone, server: WebServer) -> None:
        self.imports, self.server, self.site, self.keystone = imports, server, imports.site, keystone
        sections = {"local": {"dir": str(self.directory)}, "web": {"type": "http", "weight": 9}}
        imports.site.set(
            stores=json.dumps(sections),
            api__auth="keystone",
            auth__auth_url=keystone.url,
            auth__username=SERVICE_USER,
            auth__password=SERVICE_PASSWORD,
            auth__project_name="service",
        )
        self.url = server.serve(PATH, BODY)
        self.act_as("member", "reader")

    @property
    def directory(self) -> Path:
        return self.site.home / "images"

    def act_as(self, *roles: str) -> None:
        self.imports.token = self.keystone.token("demo", "alice", roles=roles)

    def add(self, image_id: str, url: str | None = None, **body: object) -> httpx.Response:
        return self.imports.api("POST", f"/v2/images/{image_id}/locations", json={"url": url or self.url, **body})

    def registered(self, url: str | None = None, **body: object) -> str:
        """Register the URL for a new image, and run the flow; return the image's id."""
        image_id = self.imports.create()
        asked = self.add(image_id, url, **body)
        assert (asked.status_code, asked.content) == (202, b""), asked.text
        self.imports.carry(image_id)
        return image_id

    def file(self, name: str = "golden.img") -> str:
        """Put the data into the directory of the file store; return their URL."""
        self.imports.api("GET", "/v2/info/stores")
        (self.directory / name).write_bytes(BODY)
        return f"file://{self.directory / name}"

    def break_off(self) -> None:
        """Let the server answer how long the data are, and refuse to send them."""
        self.server.on(PATH, only_sized(BODY))

    def list(self, image_id: str) -> httpx.Response:
        token, self.imports.token = self.imports.token, self.keystone.token("demo", "nova", roles=["admin"])
        listed = self.imports.api("GET", f"/v2/images/{image_id}/locations")
        self.imports.token = token
        return listed

    def is_known(self, image_id: str, store: str = "web") -> bool:
        with self.site.catalog.read() as connection:
            return find_location(connection, image_id, store) is not None


def validation(algorithm: str = "sha512", value: str | None = None) -> dict[str, Any]:
    return {"validation_data": {"os_hash_algo": algorithm, "os_hash_value": value or DIGESTS[algorithm]}}


@pytest.fixture
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture
def locations(imports: AskedImports, keystone: Keystone, server: WebServer) -> Locations:
    return Locations(imports, keystone, server)


def test_an_image_at_a_url_is_active_and_then_has_its_digests(locations: Locations) -> None:
    image_id = locations.registered()
    image = locations.imports.image(image_id)
    assert (image.status, image.size, image.checksum) == (ImageStatus.ACTIVE, len(BODY), MD5)
    assert (image.os_hash_algo, image.os_hash_value) == ("sha512", DIGESTS["sha512"])
    assert (image.importing_to, image.failed_import, image.import_task) == ((), (), None)
    (task,) = locations.imports.tasks(image_id)
    assert (task["type"], task["status"], task["message"]) == (
        "location_import", "success", "registered in web, with digests"
    )  # fmt: skip
    assert task["input"] == {"image_id": image_id, "loc_url": locations.url, "backend": ["web"]}
    listed = locations.list(image_id)
    assert (listed.status_code, listed.json()) == (200, [{"url": locations.url, "metadata": {"store": "web"}}])


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_data_with_the_announced_digest_make_the_image_active(locations: Locations, algorithm: str) -> None:
    image_id = locations.registered(**validation(algorithm))
    image = locations.imports.image(image_id)
    assert (image.status, image.os_hash_algo, image.os_hash_value) == (
        ImageStatus.ACTIVE, algorithm, DIGESTS[algorithm]
    )  # fmt: skip
    assert image.checksum == MD5
    assert locations.imports.tasks(image_id)[0]["input"]["validation_data"] == validation(algorithm)["validation_data"]


def test_until_announced_digests_are_proven_the_image_is_importing_and_locked(locations: Locations) -> None:
    image_id = locations.imports.create()
    assert locations.add(image_id, **validation()).status_code == 202
    image = locations.imports.image(image_id)
    assert (image.status, image.importing_to) == (ImageStatus.IMPORTING, ("web",))
    assert locations.list(image_id).json() == []
    again = locations.add(image_id)
    assert (again.status_code, "still in progress" in again.text) == (409, True)


def test_other_data_than_announced_free_the_image_and_their_location_is_forgotten(locations: Locations) -> None:
    url = locations.file()
    locations.act_as("service", "member", "reader")
    for asked, store in ((url, "local"), (locations.url, "web")):
        image_id = locations.registered(asked, **validation(value=WRONG))
        image, task = locations.imports.image(image_id), locations.imports.tasks(image_id)[0]
        assert (image.status, image.size, image.os_hash_value, image.checksum) == (
            ImageStatus.QUEUED, None, None, None
        )  # fmt: skip
        assert task["status"] == "failure"
        assert f"the sha512 of the data in store {store} is {DIGESTS['sha512']}" in task["message"]
        assert locations.list(image_id).json() == []
        assert not locations.is_known(image_id, store)
        assert locations.imports.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    # They are data of somebody else.
    assert Path(url.removeprefix("file://")).read_bytes() == BODY


def test_data_that_cannot_be_read_leave_the_image_active_without_digests(locations: Locations) -> None:
    image_id = locations.imports.create()
    assert locations.add(image_id).status_code == 202
    locations.break_off()
    state = locations.imports.carry(image_id)
    image, task = locations.imports.image(image_id), locations.imports.tasks(image_id)[0]
    assert (image.status, image.os_hash_value) == (ImageStatus.ACTIVE, None)
    assert task["status"] == "failure"
    assert "the image is active without digests" in task["message"], state.message


def test_without_hashing_the_digests_are_those_of_the_request(locations: Locations) -> None:
    locations.site.set(imports__do_secure_hash="false")
    image_id = locations.registered(**validation(value=WRONG))
    image = locations.imports.image(image_id)
    assert (image.status, image.size, image.os_hash_value) == (ImageStatus.ACTIVE, len(BODY), WRONG)
    unknown = locations.imports.image(locations.registered())
    assert (unknown.status, unknown.os_hash_algo, unknown.os_hash_value) == (ImageStatus.ACTIVE, None, None)


def test_the_data_are_read_in_ranges_and_copied_without_a_copy_to_the_web(locations: Locations) -> None:
    image_id = locations.registered()
    part = locations.imports.api("GET", f"/v2/images/{image_id}/file", headers={"Range": "bytes=1000000-2999999"})
    assert (part.status_code, part.content) == (206, BODY[1000000:3000000])
    locations.act_as("admin")
    body = {"method": {"name": "copy-image"}, "all_stores": True}
    assert locations.imports.api("POST", f"/v2/images/{image_id}/import", json=body).status_code == 202
    assert locations.imports.carry(image_id).name == "Imported"
    assert locations.imports.shown(image_id)["stores"] == "web,local"
    assert locations.site.stored() == {image_id: BODY}


def test_a_deleted_image_takes_its_data_along_but_not_from_the_web(locations: Locations) -> None:
    url = locations.file()
    locations.act_as("service", "member", "reader")
    for asked in (url, locations.url):
        image_id = locations.registered(asked)
        assert locations.imports.image(image_id).status is ImageStatus.ACTIVE
        assert locations.imports.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    assert locations.site.stored() == {}
    assert {request.method for request in locations.server.requests(PATH)} == {"GET"}


def test_data_of_another_image_are_refused(locations: Locations) -> None:
    url = locations.file()
    locations.act_as("service", "member", "reader")
    locations.registered(url)
    refused = locations.add(locations.imports.create(), url)
    assert (refused.status_code, "those of another image" in refused.text) == (409, True)
    # Nothing is deleted from the web, so images may share what is there.
    assert locations.registered() != locations.registered()


def test_two_images_that_ask_for_the_same_data_at_once_do_not_both_get_them(locations: Locations) -> None:
    url = locations.file()
    locations.act_as("service", "member", "reader")
    first, second = locations.imports.create(), locations.imports.create()
    assert [locations.add(image_id, url).status_code for image_id in (first, second)] == [202, 202]
    for image_id in (first, second):
        locations.imports.carry(image_id)
    found = [locations.imports.image(image_id).status for image_id in (first, second)]
    assert found == [ImageStatus.ACTIVE, ImageStatus.QUEUED]
    assert "those of another image" in locations.imports.task(second).message


@pytest.mark.parametrize(
    ("roles", "url", "status", "text"),
    [
        (["reader"], "", 403, "add_image_location"),
        (["member"], "file:///etc/passwd", 403, "Only services may register"),
        (["service", "member"], "file:///etc/passwd", 400, "No store of this site has the location file:///etc/passwd"),
        (["service", "member"], "file://{dir}/../passwd", 400, "No store of this site"),
        (["service", "member"], "file://{dir}/missing", 400, "store local does not hold missing"),
        (["service", "member"], "swift+config://ref/container/object", 400, "No store of this site"),
        (["service", "member"], "nonsense", 400, "No store of this site has the location nonsense"),
        (["member"], "http://alice:secret@127.0.0.1/a", 400, "user name or password"),
        (["member"], "http://169.254.169.254/latest", 400, "does not pass filtering"),
        (["member"], "{server}/missing", 400, "does not hold missing"),
        (["member"], 7, 400, "needs a 'url' that is text"),
    ],
)
def test_a_location_that_cannot_be_registered_is_refused_and_changes_nothing(
    locations: Locations, roles: list[str], url: object, status: int, text: str
) -> None:
    image_id = locations.imports.create()
    locations.act_as("reader", *roles)
    locations.server.on("/missing", answer(404))
    if isinstance(url, str):
        url = url.format(dir=locations.directory, server=locations.server.url("")) or locations.url
    refused = locations.imports.api(
        "POST", f"/v2/images/{image_id}/locations", json={"url": url}, headers={"Accept": "application/json"}
    )
    assert refused.status_code == status, refused.text
    assert text in refused.json()["message"]
    assert "secret" not in refused.text
    assert locations.imports.image(image_id).status is ImageStatus.QUEUED
    assert locations.imports.tasks(image_id) == []


@pytest.mark.parametrize(
    "data",
    [
        {"os_hash_algo": "sha512"},
        {"os_hash_value": WRONG},
        {"os_hash_algo": "crc32", "os_hash_value": "00000000"},
        {"os_hash_algo": "sha256", "os_hash_value": WRONG},
        {"os_hash_algo": "md5", "os_hash_value": "z" * 32},
        {"os_hash_algo": "md5", "os_hash_value": 7},
        {"os_hash_algo": "md5", "os_hash_value": "0" * 32, "size": "7"},
        "sha512",
    ],
)
def test_validation_data_that_cannot_be_used_are_refused(locations: Locations, data: object) -> None:
    refused = locations.add(locations.imports.create(), validation_data=data)
    assert (refused.status_code, "os_hash" in refused.text or "validation_data" in refused.text) == (400, True)


def test_only_queued_images_with_formats_and_within_the_quota_get_a_location(locations: Locations) -> None:
    active = locations.registered()
    assert locations.add(active).status_code == 409
    assert locations.add(locations.imports.create(disk_format=None)).status_code == 409
    assert locations.add("6fdb1d55-8bcf-4f9b-8fd1-2f9d3d4d7c11").status_code == 404
    locations.site.set(quota__image_location_quota="0")
    assert locations.add(locations.imports.create()).status_code == 413


def test_a_site_without_a_store_for_urls_takes_none(locations: Locations) -> None:
    locations.site.set(stores=json.dumps({"local": {"dir": str(locations.directory)}}))
    image_id = locations.imports.create()
    assert locations.add(image_id).status_code == 403
    locations.act_as("service", "member", "reader")
    assert locations.add(image_id).status_code == 400


def test_only_admins_and_services_list_locations_and_only_admins_those_of_a_deactivated_image(
    locations: Locations,
) -> None:
    image_id = locations.registered()
    assert locations.imports.api("GET", f"/v2/images/{image_id}/locations").status_code == 403
    assert locations.imports.api("POST", f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert len(locations.list(image_id).json()) == 1
    locations.act_as("service", "member", "reader")
    listed = locations.imports.api("GET", f"/v2/images/{image_id}/locations")
    assert (listed.status_code, listed.json()) == (200, [])


def test_the_method_cannot_be_named_in_an_import(locations: Locations) -> None:
    body = {"method": {"name": "location-import", "uri": locations.url}}
    refused = locations.imports.api("POST", f"/v2/images/{locations.imports.create()}/import", json=body)
    assert (refused.status_code, "Unknown import method name" in refused.text) == (400, True)
    assert len(OFFERED) == 4


def test_the_list_of_tasks_finds_them_by_type(locations: Locations) -> None:
    (task,) = locations.imports.tasks(locations.registered())
    locations.act_as("admin")
    found = {
        kind: [each["id"] for each in locations.imports.api("GET", f"/v2/tasks?type={kind}").json()["tasks"]]
        for kind in ("location_import", "api_image_import", "import")
    }
    assert found == {"location_import": [task["id"]], "api_image_import": [], "import": []}
