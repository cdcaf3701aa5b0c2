"""The Images API with Keystone authentication."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.images_api import FORMATS, SOURCE, ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.catalog.tasks import tasks_of_image
from transship.domain.task import ImportTask

JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


@pytest.fixture
def guarded(make_api: ApiMaker, keystone: Keystone) -> ImagesApi:
    return make_api(api={"auth": "keystone", "host": "0.0.0.0"}, auth=keystone.section)


def call(api: ImagesApi, method: str, path: str, token: str = "", **arguments: Any) -> Any:
    headers = {**JSON, **({"X-Auth-Token": token} if token else {}), **arguments.pop("headers", {})}
    return api.client.request(method, path, headers=headers, **arguments)


def create(api: ImagesApi, token: str, **attributes: object) -> str:
    made = call(api, "POST", "/v2/images", token, json={**FORMATS, **attributes})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


@pytest.mark.parametrize("path", ["/v2/images", "/v2/info/stores", "/v2/schemas/image", "/v2/nothing-here"])
@pytest.mark.parametrize("token", ["", "nobody-issued-this"])
def test_without_a_valid_token_every_path_is_401_and_says_where_to_get_one(
    path: str, token: str, guarded: ImagesApi, keystone: Keystone
) -> None:
    answer = call(guarded, "GET", path, token)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert "requires authentication" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/", "/v2/images", "/v2/nothing"])
def test_options_of_any_path_are_an_empty_200_without_a_token(guarded: ImagesApi, path: str) -> None:
    answer = guarded.client.options(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(("path", "status"), [("/", 300), ("/versions", 200), ("/healthcheck", 200)])
def test_versions_and_health_are_for_everybody(path: str, status: int, guarded: ImagesApi) -> None:
    assert call(guarded, "GET", path).status_code == status


def test_an_image_belongs_to_the_project_of_the_token(guarded: ImagesApi, keystone: Keystone) -> None:
    mine = keystone.token("demo", "alice")
    image_id = create(guarded, mine)
    assert call(guarded, "GET", f"/v2/images/{image_id}", mine).json()["owner"] == "demo"
    theirs = keystone.token("other", "mallory")
    assert call(guarded, "GET", f"/v2/images/{image_id}", theirs).status_code == 404
    assert call(guarded, "GET", "/v2/images", theirs).json()["images"] == []
    operator = keystone.token("admin", "root", roles=["admin", "member", "reader"])
    assert call(guarded, "GET", f"/v2/images/{image_id}", operator).status_code == 200


@pytest.mark.parametrize(("visibility", "status"), [("community", 403), ("shared", 404), ("private", 404)], ids=str)
def test_another_projects_image_cannot_be_changed_and_only_open_ones_are_admitted_to_exist(
    visibility: str, status: int, guarded: ImagesApi, keystone: Keystone
) -> None:
    image_id = create(guarded, keystone.token("demo"), visibility=visibility)
    theirs = keystone.token("other", "mallory")
    body = {"method": {"name": "web-download", "uri": SOURCE}}
    assert call(guarded, "POST", f"/v2/images/{image_id}/import", theirs, json=body).status_code == status
    assert call(guarded, "DELETE", f"/v2/images/{image_id}", theirs).status_code == status


@pytest.mark.parametrize("roles", [["reader"], [], ["auditor"]], ids=str)
def test_a_caller_who_is_no_member_creates_nothing(roles: list[str], guarded: ImagesApi, keystone: Keystone) -> None:
    token = keystone.token("demo", roles=roles)
    assert call(guarded, "POST", "/v2/images", token, json=FORMATS).status_code == 403


def test_an_admin_of_the_whole_system_is_no_admin_of_images(guarded: ImagesApi, keystone: Keystone) -> None:
    image_id = create(guarded, keystone.token("demo"))
    system = keystone.token(None, "root", roles=["admin"])
    assert call(guarded, "GET", f"/v2/images/{image_id}", system).status_code == 404


def test_a_task_says_which_user_of_which_project_asked(guarded: ImagesApi, keystone: Keystone) -> None:
    token = keystone.token("demo", "alice")
    image_id = create(guarded, token)
    answer = call(
        guarded,
        "POST",
        f"/v2/images/{image_id}/import",
        token,
        json={"method": {"name": "web-download", "uri": SOURCE}},
    )
    assert answer.status_code == 202
    task = call(guarded, "GET", f"/v2/images/{image_id}/tasks", token).json()["tasks"][0]
    assert (task["owner"], task["user_id"]) == ("demo", "alice")
    assert task["request_id"] == answer.headers["x-openstack-request-id"]
    assert token not in str(stored(guarded, image_id))


def test_only_admins_see_the_tasks_of_all(guarded: ImagesApi, keystone: Keystone) -> None:
    member, admin = keystone.token("demo"), keystone.token("demo", roles=["admin"])
    image_id = create(guarded, member)
    assert call(guarded, "GET", f"/v2/images/{image_id}/tasks", member).status_code == 200
    for path in ("/v2/tasks", "/v2/tasks/5d8730c6-d4be-4f28-9f6b-000000000000"):
        assert call(guarded, "GET", path, member).status_code == 403
    assert call(guarded, "GET", "/v2/tasks", admin).status_code == 200


def stored(api: ImagesApi, image_id: str) -> list[ImportTask]:
    with api.catalog.read() as connection:
        return tasks_of_image(connection, image_id, datetime.now(UTC))


def test_a_service_acts_for_a_user_whose_token_expired_meanwhile(guarded: ImagesApi, keystone: Keystone) -> None:
    expired = keystone.token("demo", lives_s=-1)
    assert call(guarded, "GET", "/v2/images", expired).status_code == 401
    service = keystone.token("service", "nova", roles=["service"])
    answer = call(guarded, "GET", "/v2/images", expired, headers={"X-Service-Token": service})
    assert answer.status_code == 200


def test_a_keystone_that_is_away_is_503_not_401(guarded: ImagesApi, keystone: Keystone) -> None:
    token = keystone.token()
    keystone.broken = 500
    try:
        answer = call(guarded, "GET", "/v2/images", token)
    finally:
        keystone.broken = 0
    assert answer.status_code == 503
    assert "www-authenticate" not in answer.headers


def test_a_body_of_a_stranger_is_not_read(guarded: ImagesApi) -> None:
    answer = call(guarded, "POST", "/v2/images", content=b"{" * 4096)
    assert answer.status_code == 401


def test_a_patch_that_changes_nothing_needs_no_permission_but_to_see_the_image(
    guarded: ImagesApi, keystone: Keystone
) -> None:
    mine, other = keystone.token("demo", "alice"), keystone.token("other", "bob")
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    image_ids = [create(guarded, mine, visibility=visibility) for visibility in ("community", "private")]
    answers = [call(guarded, "PATCH", f"/v2/images/{id_}", other, json=[], headers=headers) for id_ in image_ids]
    assert [answer.status_code for answer in answers] == [200, 404]
