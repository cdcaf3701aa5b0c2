"""Locations in the view of an image, and PATCH of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_locations import BODY, DIGESTS, MD5, PATH, WRONG, Locations, keystone, locations
from tests.fakes.web_server import WebServer
from transship.domain.image import ImageStatus

pytestmark = pytest.mark.real

__all__ = ["keystone", "locations"]

MEDIA_TYPE = "application/openstack-images-v2.1-json-patch"


class Patches:
    """A site that shows locations, and an admin who changes them.

    Attributes:
        url: of the data on the web server; file: in the directory of the store ``local``.
    """

    def __init__(self, locations: Locations) -> None:
        self.locations, self.imports = locations, locations.imports
        locations.site.set(api__show_multiple_locations="true", api__show_image_direct_url="true")
        locations.act_as("admin", "member", "reader")
        self.url, self.file = locations.url, locations.file()

    def patch(self, image_id: str, *operations: dict[str, Any]) -> httpx.Response:
        headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json"}
        return self.imports.api("PATCH", f"/v2/images/{image_id}", json=operations, headers=headers)

    def add(self, image_id: str, url: str, **value: object) -> httpx.Response:
        return self.patch(image_id, {"op": "add", "path": "/locations/-", "value": located(url, **value)})

    def urls(self, image_id: str) -> list[str]:
        return [each["url"] for each in self.imports.shown(image_id)["locations"]]


def located(url: str, **value: object) -> dict[str, object]:
    return {"url": url, "metadata": {}, **value}


@pytest.fixture
def patches(locations: Locations) -> Patches:
    return Patches(locations)


def test_a_location_that_is_added_to_a_queued_image_makes_it_active(patches: Patches) -> None:
    image_id = patches.imports.create()
    validation = {"os_hash_algo": "sha512", "os_hash_value": DIGESTS["sha512"], "checksum": MD5}
    added = patches.add(image_id, patches.url, validation_data=validation)
    assert added.status_code == 200, added.text
    shown = added.json()
    assert (shown["status"], shown["size"], shown["stores"]) == ("active", len(BODY), "web")
    assert {name: shown[name] for name in validation} == validation
    assert shown["locations"] == [{"url": patches.url, "metadata": {"store": "web"}}]
    assert shown["direct_url"] == patches.url
    assert patches.imports.tasks(image_id) == []
    assert patches.imports.api("GET", f"/v2/images/{image_id}/file").content == BODY


def test_further_locations_are_added_and_removed_with_their_data(patches: Patches) -> None:
    image_id = patches.imports.create()
    assert patches.add(image_id, patches.file).status_code == 200
    assert patches.add(image_id, patches.url).status_code == 200
    # The store of URLs has the greater weight.
    assert patches.urls(image_id) == [patches.url, patches.file]
    removed = patches.patch(image_id, {"op": "remove", "path": "/locations/1"})
    assert (removed.status_code, patches.urls(image_id)) == (200, [patches.url])
    assert patches.locations.site.stored() == {}
    last = patches.patch(image_id, {"op": "remove", "path": "/locations/0"})
    assert (last.status_code, "last location" in last.text) == (403, True)


def test_the_whole_list_is_replaced(patches: Patches) -> None:
    image_id = patches.imports.create()
    assert patches.add(image_id, patches.url).status_code == 200
    elsewhere = patches.locations.server.serve("/elsewhere.img", BODY)
    for urls in ([elsewhere], [patches.file, elsewhere], [patches.url]):
        value = [located(url) for url in urls]
        replaced = patches.patch(image_id, {"op": "replace", "path": "/locations", "value": value})
        assert replaced.status_code == 200, replaced.text
        assert set(patches.urls(image_id)) == set(urls)
    assert patches.locations.site.stored() == {}
    empty = patches.patch(image_id, {"op": "replace", "path": "/locations", "value": []})
    assert (empty.status_code, patches.urls(image_id)) == (403, [patches.url])


@pytest.mark.parametrize(
    ("operation", "status", "text"),
    [
        ({"op": "add", "path": "/locations/9", "value": located("{file}")}, 400, "Invalid position"),
        ({"op": "add", "path": "/locations", "value": located("{file}")}, 400, "Invalid JSON pointer"),
        ({"op": "add", "path": "/locations/-", "value": located("file:///etc/passwd")}, 400, "No store of this site"),
        ({"op": "add", "path": "/locations/-", "value": located("{file}", metadata={"store": "web"})}, 400, "'web'"),
        ({"op": "add", "path": "/locations/-", "value": located("{url}")}, 400, "already present at store 'web'"),
        ({"op": "add", "path": "/locations/-", "value": {"metadata": {}}}, 400, "needs a 'url'"),
        ({"op": "add", "path": "/locations/-", "value": located("{short}")}, 409, "size of the new location is 7"),
        (
            {
                "op": "add",
                "path": "/locations/-",
                "value": located("{file}", validation_data={"os_hash_algo": "sha512", "os_hash_value": WRONG}),
            },
            409,
            "os_hash_value of the new location",
        ),
        ({"op": "replace", "path": "/locations", "value": {}}, 400, "must be a list"),
        ({"op": "remove", "path": "/locations/-"}, 400, "Invalid position"),
        ({"op": "remove", "path": "/locations/2"}, 400, "Invalid position"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_and_changes_nothing(
    patches: Patches, operation: dict[str, Any], status: int, text: str
) -> None:
    image_id = patches.locations.registered()
    if operation["op"] == "remove":
        assert patches.add(image_id, patches.file).status_code == 200
    before = patches.imports.shown(image_id)
    (patches.locations.directory / "short").write_bytes(b"7 bytes")
    short = f"file://{patches.locations.directory / 'short'}"
    value = operation.get("value")
    if isinstance(value, dict) and "url" in value:
        url = value["url"].format(file=patches.file, url=patches.url, short=short)
        operation = {**operation, "value": {**value, "url": url}}
    refused = patches.patch(image_id, operation)
    assert refused.status_code == status, refused.text
    assert text in refused.json()["message"]
    assert patches.imports.shown(image_id) == before


def test_an_image_that_is_imported_or_deactivated_keeps_its_locations(patches: Patches) -> None:
    image_id = patches.imports.create()
    assert patches.locations.add(image_id).status_code == 202
    assert patches.add(image_id, patches.file).status_code == 409
    patches.imports.carry(image_id)
    assert patches.imports.api("POST", f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert patches.add(image_id, patches.file).status_code == 409


def test_an_image_without_formats_gets_no_location(patches: Patches) -> None:
    image_id = patches.imports.create(disk_format=None)
    assert patches.add(image_id, patches.url).status_code == 409
    both = patches.patch(
        image_id,
        {"op": "add", "path": "/disk_format", "value": "raw"},
        {"op": "add", "path": "/locations/-", "value": located(patches.url)},
    )
    assert (both.status_code, patches.imports.shown(image_id)["status"]) == (200, "active")


def test_the_quota_counts_all_locations_but_limits_only_what_is_added(patches: Patches) -> None:
    image_id = patches.imports.create()
    assert patches.add(image_id, patches.url).status_code == 200
    patches.locations.site.set(quota__image_location_quota="1")
    assert patches.add(image_id, patches.file).status_code == 413
    body = {"method": {"name": "copy-image"}, "all_stores": True}
    assert patches.imports.api("POST", f"/v2/images/{image_id}/import", json=body).status_code == 202
    assert patches.imports.carry(image_id).name == "Imported"
    assert len(patches.urls(image_id)) == 2


def test_data_of_another_image_are_not_added(patches: Patches) -> None:
    first, second = patches.imports.create(), patches.imports.create()
    assert patches.add(first, patches.file).status_code == 200
    refused = patches.add(second, patches.file)
    assert (refused.status_code, patches.imports.image(second).status) == (409, ImageStatus.QUEUED)
    assert Path(patches.file.removeprefix("file://")).read_bytes() == BODY


def test_a_site_that_shows_no_locations_changes_none(patches: Patches, server: WebServer) -> None:
    patches.locations.site.set(api__show_multiple_locations="false", api__show_image_direct_url="false")
    image_id = patches.imports.create()
    asked = len(server.requests(PATH))
    refused = patches.add(image_id, patches.url)
    assert (refused.status_code, "locations are invisible" in refused.text) == (403, True)
    assert len(server.requests(PATH)) == asked
    shown = patches.imports.shown(patches.locations.registered())
    assert shown.keys().isdisjoint({"locations", "direct_url"})


def test_locations_are_shown_to_those_who_pass_the_rule_and_of_a_deactivated_image_to_admins(patches: Patches) -> None:
    image_id = patches.locations.registered()
    assert patches.imports.api("POST", f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert (patches.urls(image_id), "direct_url" in patches.imports.shown(image_id)) == ([patches.url], True)
    patches.locations.act_as("member", "reader")
    assert (patches.urls(image_id), "direct_url" in patches.imports.shown(image_id)) == ([], False)
    policies = patches.locations.site.home / "policy.yaml"
    policies.write_text("get_image_location: 'role:admin'")
    patches.locations.site.set(api__policy_file=str(policies))
    open_image = patches.locations.registered()
    shown = patches.imports.shown(open_image)
    (listed,) = (each for each in patches.imports.api("GET", "/v2/images").json()["images"] if each["id"] == open_image)
    assert shown.keys().isdisjoint({"locations", "direct_url"})
    assert listed.keys().isdisjoint({"locations", "direct_url"})


def test_a_location_counts_against_the_quota_of_the_project(patches: Patches) -> None:
    patches.locations.site.set(quota__user_storage_bytes=str(len(BODY) * 3 // 2))
    image_id = patches.imports.create()
    assert patches.add(image_id, patches.url).status_code == 200
    other = patches.imports.create()
    assert patches.add(image_id, patches.file).status_code == 413
    assert patches.add(other, patches.file).status_code == 413
    assert patches.locations.add(other).status_code == 413
    # It replaces the first one.
    replaced = {"op": "replace", "path": "/locations", "value": [located(patches.file)]}
    assert patches.patch(image_id, replaced).status_code == 200
