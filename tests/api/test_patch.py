"""JSON patches of images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.images_api import FORMATS, ImagesApi
from transship.api.patch import DRAFT_4, RFC_6902


def _patch(api: ImagesApi, image_id: str, patch: object, media_type: str = RFC_6902) -> Any:
    return api.client.patch(f"/v2/images/{image_id}", json=patch, headers={"Content-Type": media_type})


def _add(path: str, value: object) -> dict[str, object]:
    return {"op": "add", "path": path, "value": value}


def _replace(path: str, value: object) -> dict[str, object]:
    return {"op": "replace", "path": path, "value": value}


def _remove(path: str) -> dict[str, object]:
    return {"op": "remove", "path": path}


def test_a_patch_changes_attributes_and_properties_and_answers_with_the_image(api: ImagesApi) -> None:
    image_id = api.create(name="old", a="1", b="2", tags=["x"], **FORMATS)
    answer = _patch(
        api,
        image_id,
        [
            _replace("/name", None),
            _replace("/a", "3"),
            _remove("/b"),
            _add("/c~1d~0e", "4"),
            _add("/tags", ["y", "z", "y"]),
            _replace("/min_disk", 5),
            _replace("/visibility", "public"),
            _replace("/protected", True),
            _replace("/os_hidden", True),
            _replace("/disk_format", "raw"),
            _replace("/owner", "project-7"),
        ],
    )
    assert answer.status_code == 200
    image = answer.json()
    assert image == api.image(image_id)
    assert (image["name"], image["a"], image["c/d~e"], "b" in image) == (None, "3", "4", False)
    assert (image["tags"], image["min_disk"], image["visibility"]) == (["y", "z"], 5, "public")
    assert (image["protected"], image["os_hidden"], image["disk_format"]) == (True, True, "raw")
    assert image["owner"] == "project-7"


def test_the_older_media_type_names_the_operation_by_its_member(api: ImagesApi) -> None:
    image_id = api.create(a="1")
    answer = _patch(api, image_id, [{"replace": "/a", "value": "2"}, {"add": "/b", "value": "3"}], DRAFT_4)
    assert (answer.status_code, answer.json()["a"], answer.json()["b"]) == (200, "2", "3")


@pytest.mark.parametrize("media_type", ["application/json", "", "application/json-patch+json", RFC_6902.upper()])
def test_another_media_type_is_refused_with_those_accepted(api: ImagesApi, media_type: str) -> None:
    answer = _patch(api, api.create(), [], media_type)
    assert answer.status_code == 415
    assert answer.headers["accept-patch"] == f"{RFC_6902}, {DRAFT_4}"


def test_parameters_of_the_media_type_are_no_matter(api: ImagesApi) -> None:
    assert _patch(api, api.create(), [], f"{RFC_6902}; charset=utf-8").status_code == 200


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ({}, 400),
        ([7], 400),
        ([{}], 400),
        ([{"op": "add", "value": "x"}], 400),
        ([{"op": "add", "path": "/x"}], 400),
        ([{"op": "move", "path": "/x", "value": "y"}], 400),
        ([{"op": ["add"], "path": "/x", "value": "y"}], 400),
        ([{"op": "add", "path": 7, "value": "y"}], 400),
        ([_add("x", "y")], 400),
        ([_add("", "y")], 400),
        ([_add("/", "y")], 400),
        ([_add("/x/", "y")], 400),
        ([_add("//x", "y")], 400),
        ([_add("/x/y", "y")], 400),
        ([_add("/x~2", "y")], 400),
        ([_add("/x~", "y")], 400),
        ([_add("/x", 7)], 400),
        ([_add("/x", None)], 400),
        ([_add("/" + "x" * 256, "y")], 400),
        ([_replace("/disk_format", "floppy")], 400),
        ([_replace("/visibility", "secret")], 400),
        ([_replace("/min_ram", -1)], 400),
        ([_replace("/tags", "x")], 400),
        ([_replace("/id", str(uuid4()))], 403),
        ([_replace("/status", "active")], 403),
        ([_replace("/size", 7)], 403),
        ([_remove("/checksum")], 403),
        ([_replace("/stores", "fast")], 403),
        ([_add("/os_glance_x", "y")], 403),
        ([_remove("/os_glance_import_task")], 403),
        ([_add("/deleted", "y")], 403),
        ([_remove("/name")], 403),
        ([_remove("/tags")], 403),
        ([_remove("/missing")], 409),
        ([_replace("/missing", "y")], 409),
        ([_add("/locations/-", {"url": "file:///etc/passwd", "metadata": {}})], 403),
        ([_replace("/locations", [])], 403),
        ([_remove("/locations/0")], 403),
        ([_add("/locations", {})], 400),
        ([_replace("/locations/0", {})], 400),
        ([_add("/a", "2"), _remove("/missing")], 409),
    ],
)
def test_a_patch_that_cannot_be_applied_changes_nothing(api: ImagesApi, patch: object, status: int) -> None:
    image_id = api.create(name="old", a="1")
    before = api.image(image_id)
    assert _patch(api, image_id, patch).status_code == status
    assert api.image(image_id) == before


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ([{"add": "/a", "value": "2"}], 409),
        ([{"add": "/name", "value": "2"}], 409),
        ([{"add": "/b", "replace": "/a", "value": "2"}], 400),
        ([{"op": "add", "path": "/b", "value": "2"}], 400),
        ([{"remove": "/b"}], 409),
    ],
)
def test_the_older_media_type_is_stricter(api: ImagesApi, patch: object, status: int) -> None:
    assert _patch(api, api.create(a="1"), patch, DRAFT_4).status_code == status


@pytest.mark.parametrize("name", ["disk_format", "container_format"])
def test_formats_stay_once_an_import_has_begun(api: ImagesApi, name: str) -> None:
    image_id = api.create(**FORMATS)
    api.begin(image_id)
    assert _patch(api, image_id, [_replace(f"/{name}", None)]).status_code == 403
    done = api.active(b"data")
    assert _patch(api, done, [_replace(f"/{name}", None)]).status_code == 403


def test_a_patch_during_an_import_survives_it(api: ImagesApi) -> None:
    image_id = api.create(**FORMATS, name="before", a="1")
    assert _patch(api, image_id, [_replace("/name", "during")]).status_code == 200
    api.activate(image_id, b"data")
    assert (api.image(image_id)["name"], api.image(image_id)["status"]) == ("during", "active")


def test_an_unknown_image_cannot_be_patched(api: ImagesApi) -> None:
    assert _patch(api, str(uuid4()), []).status_code == 404


def test_patches_of_many_clients_at_one_moment_are_all_applied(api: ImagesApi) -> None:
    image_id = api.create()
    names = [f"p{n}" for n in range(12)]
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda name: _patch(api, image_id, [_add(f"/{name}", "x")]), names))
    assert {answer.status_code for answer in answers} == {200}
    assert set(names) <= api.image(image_id).keys()
