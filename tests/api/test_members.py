"""Images that are shared with projects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from tests.fakes.images import queued_image
from tests.fakes.images_api import ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.catalog.schema import NOTIFICATIONS
from transship.domain.image import Visibility

ROLES = {"operators": ["admin", "member", "reader"]}
QUOTA = 3


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


class Site:
    """An API with Keystone; the callers are members of their projects.

    Attributes:
        image_id: a shared image of the project ``owner``.
    """

    def __init__(self, api: ImagesApi, keystone: Keystone) -> None:
        self.api, self._keystone = api, keystone
        self.image_id = self.image()

    def image(self, visibility: Visibility = Visibility.SHARED) -> str:
        return queued_image(self.api.catalog, owner="owner", visibility=visibility).id

    def call(
        self, project: str, method: str, path: str = "", body: object = None, image_id: str = ""
    ) -> httpx.Response:
        """Send a request about an image's members."""
        headers = {
            "Accept": "application/json",
            "X-Auth-Token": self._keystone.token(project, "user", roles=ROLES.get(project, ["member", "reader"])),
        }
        where = f"/v2/images/{image_id or self.image_id}/members{path}"
        content = None if body is None else json.dumps(body)
        return self.api.client.request(method, where, headers=headers, content=content)

    def share(self, *projects: str) -> None:
        for project in projects:
            assert self.call("owner", "POST", body={"member": project}).status_code == 200

    def members(self, project: str) -> list[tuple[str, str]]:
        """Return who the members are and what they answered, as a project sees it."""
        found = self.call(project, "GET").json()["members"]
        return [(member["member_id"], member["status"]) for member in found]

    def finds(self, project: str, **query: str) -> bool:
        """Whether the image is in a project's list."""
        headers = {"X-Auth-Token": self._keystone.token(project, "user", roles=["member", "reader"])}
        listed = self.api.client.get("/v2/images", headers=headers, params=query).json()["images"]
        return self.image_id in {image["id"] for image in listed}


@pytest.fixture
def site(make_api: ApiMaker, keystone: Keystone) -> Site:
    api = make_api(
        api={"auth": "keystone", "host": "0.0.0.0"},
        auth=keystone.section,
        quota={"image_member_quota": QUOTA},
        notifications={"drivers": ["log"]},
    )
    return Site(api, keystone)


def test_a_shared_image_is_found_by_its_members_and_listed_once_they_accept_it(site: Site) -> None:
    assert not site.finds("friend")
    added = site.call("owner", "POST", body={"member": "friend"})
    assert (added.status_code, added.json()["status"]) == (200, "pending")
    assert added.json().keys() == {"member_id", "image_id", "status", "created_at", "updated_at", "schema"}
    assert (site.finds("friend"), site.finds("friend", member_status="pending")) == (False, True)

    accepted = site.call("friend", "PUT", "/friend", {"status": "accepted"})

    assert (accepted.status_code, accepted.json()["status"]) == (200, "accepted")
    assert (site.finds("friend"), site.finds("stranger")) == (True, False)
    assert site.call("friend", "PUT", "/friend", {"status": "rejected"}).json()["status"] == "rejected"
    assert not site.finds("friend")
    assert site.call("owner", "DELETE", "/friend").status_code == 204
    assert site.call("friend", "GET").status_code == 404
    assert not site.finds("friend", member_status="all")


def test_members_find_themselves_and_the_owner_and_admins_find_all(site: Site) -> None:
    site.share("friend", "other")
    everybody = [("friend", "pending"), ("other", "pending")]
    assert site.members("owner") == site.members("operators") == everybody
    assert site.members("friend") == [("friend", "pending")]
    found = {
        (caller, member): site.call(caller, "GET", f"/{member}").status_code
        for caller in ("owner", "operators", "friend", "stranger")
        for member in ("friend", "other", "nobody")
    }
    assert {pair for pair, status in found.items() if status == 200} == {
        *((caller, member) for caller in ("owner", "operators") for member in ("friend", "other")),
        ("friend", "friend"),
    }
    assert set(found.values()) == {200, 404}


@pytest.mark.parametrize(
    ("caller", "method", "path", "body", "status"),
    [
        ("friend", "POST", "", {"member": "other"}, 403),
        ("stranger", "POST", "", {"member": "stranger"}, 404),
        ("stranger", "GET", "", None, 404),
        ("owner", "PUT", "/friend", {"status": "accepted"}, 403),
        ("friend", "PUT", "/other", {"status": "accepted"}, 404),
        ("friend", "DELETE", "/friend", None, 403),
        ("owner", "POST", "", {"member": "friend"}, 409),
        ("owner", "DELETE", "/nobody", None, 404),
        ("operators", "PUT", "/friend", {"status": "accepted"}, 200),
    ],
)
def test_the_owner_shares_and_the_member_answers(
    site: Site, caller: str, method: str, path: str, body: object, status: int
) -> None:
    site.share("friend")
    assert site.call(caller, method, path, body).status_code == status


@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.PUBLIC, Visibility.COMMUNITY])
def test_only_shared_images_have_members(site: Site, visibility: Visibility) -> None:
    image_id = site.image(visibility)

    def asked(method: str, path: str = "", body: object = None) -> tuple[int, bool]:
        answer = site.call("owner", method, path, body, image_id)
        return answer.status_code, "Only shared images have members." in answer.text

    assert asked("POST", body={"member": "friend"}) == (403, True)
    assert asked("GET") == asked("DELETE", "/friend") == (403, True)
    assert asked("PUT", "/friend", {"status": "accepted"}) == (403, True)
    assert asked("GET", "/friend") == (404, False)


@pytest.mark.parametrize(
    "body", [{}, {"member": ""}, {"member": None}, {"member": 7}, {"member": "x" * 256}, [], "text", {"member": "\0"}]
)
def test_a_member_is_the_id_of_a_project(site: Site, body: object) -> None:
    refused = site.call("owner", "POST", body=body)
    assert refused.status_code == 400
    assert site.members("owner") == []


@pytest.mark.parametrize("body", [{}, {"status": "maybe"}, {"status": None}, {"status": []}, []])
def test_an_answer_is_one_of_three(site: Site, body: Any) -> None:
    site.share("friend")
    assert site.call("friend", "PUT", "/friend", body).status_code == 400
    assert site.members("owner") == [("friend", "pending")]


def test_no_more_members_than_the_quota_whoever_comes_first(site: Site) -> None:
    with ThreadPoolExecutor(8) as threads:
        statuses = list(
            threads.map(lambda n: site.call("owner", "POST", body={"member": f"p{n}"}).status_code, range(8))
        )
    assert sorted(statuses) == [200] * QUOTA + [413] * (8 - QUOTA)
    assert len(site.members("owner")) == QUOTA


def test_what_happens_to_members_is_announced(site: Site) -> None:
    site.share("friend")
    site.call("friend", "PUT", "/friend", {"status": "accepted"})
    site.call("owner", "DELETE", "/friend")
    with site.api.catalog.read() as connection:
        rows = connection.execute(select(NOTIFICATIONS).order_by(NOTIFICATIONS.c.id)).all()
    told = [row for row in rows if ".member." in row.event_type]
    assert [(row.event_type, row.payload["status"], row.payload["deleted"]) for row in told] == [
        ("image.member.create", "pending", False),
        ("image.member.update", "accepted", False),
        ("image.member.delete", "accepted", True),
    ]


def test_an_image_that_is_gone_has_no_members(site: Site) -> None:
    site.share("friend")
    headers = {"X-Auth-Token": site._keystone.token("owner", "user", roles=["member", "reader"])}
    assert site.api.client.delete(f"/v2/images/{site.image_id}", headers=headers).status_code == 204
    assert site.call("friend", "GET").status_code == 404
    assert site.call("owner", "GET", image_id=str(uuid4())).status_code == 404
