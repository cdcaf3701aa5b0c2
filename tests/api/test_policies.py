"""Each rule decides about the operations that the table says, by default and with a policy file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.founding_document import policies_with
from tests.fakes.images import NOW, queued_image, web_order
from tests.fakes.images_api import SOURCE, ApiMaker, ImagesApi
from tests.fakes.keystone import Keystone
from transship.catalog.imports import Caller, ask_import
from transship.catalog.members import add_member
from transship.domain.image import Member, MemberStatus, Visibility
from transship.domain.policies import RULES, Action

DATA = b"sixteen bytes..." * 64
PATCH_TYPE = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
BYTES_TYPE = {"Content-Type": "application/octet-stream"}
RAW = {"disk_format": "raw", "container_format": "bare", "visibility": "private"}

ROLES = {
    "admin": ("operators", ["admin", "member", "reader"]),
    "member": ("demo", ["member", "reader"]),
    "reader": ("demo", ["reader"]),
    "other": ("other", ["member", "reader"]),
    "service": ("service", ["service"]),
    "tester": ("demo", ["member", "reader", "tester"]),
    "auditor": ("demo", ["auditor"]),
}
"""Project and roles of each caller; the images belong to ``demo``."""


@dataclass(frozen=True)
class Asked:
    """What is sent, to which kind of image, and the status of the answer if nothing refuses it.

    Attributes:
        later: text of a refusal that comes after the rule has let the caller pass.
    """

    passed: int
    sent: dict[str, Any] = field(default_factory=dict)
    image: str = "active"
    later: str = ""


def patches(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"json": operations, "headers": PATCH_TYPE}


def patch(name: str, value: str) -> dict[str, Any]:
    return patches({"op": "replace", "path": f"/{name}", "value": value})


def asks_import(method: str, **more: str) -> dict[str, Any]:
    return {"json": {"method": {"name": method, **more}, "stores": ["archive"]}}


OPERATIONS = {
    "POST /v2/images": Asked(201, {"json": RAW}),
    "GET /v2/images": Asked(200),
    "GET /v2/images/{image_id}": Asked(200),
    "GET /v2/images/{image_id}/tasks": Asked(200),
    "PATCH /v2/images/{image_id}": Asked(200, patch("name", "other")),
    "DELETE /v2/images/{image_id}": Asked(204),
    "PUT /v2/images/{image_id}/tags/{tag}": Asked(204),
    "DELETE /v2/images/{image_id}/tags/{tag}": Asked(204),
    "GET /v2/images/{image_id}/file": Asked(200),
    "PUT /v2/images/{image_id}/file": Asked(204, {"content": DATA, "headers": BYTES_TYPE}, "queued"),
    "PUT /v2/images/{image_id}/stage": Asked(204, {"content": DATA, "headers": BYTES_TYPE}, "queued"),
    "POST /v2/images/{image_id}/import": Asked(202, asks_import("web-download", uri=SOURCE), "queued"),
    "POST /v2/images/{image_id}/actions/deactivate": Asked(204),
    "POST /v2/images/{image_id}/actions/reactivate": Asked(204),
    "GET /v2/images/{image_id}/locations": Asked(200, image="public"),
    "POST /v2/images/{image_id}/locations": Asked(
        202, {"json": {"url": "file:///etc/passwd"}}, "open", later="Only services may|No store of this site"
    ),
    "DELETE /v2/stores/{store}/{image_id}": Asked(204),
    "GET /v2/images/{image_id}/members": Asked(200, image="shared"),
    "POST /v2/images/{image_id}/members": Asked(200, {"json": {"member": "third"}}, "shared"),
    "GET /v2/images/{image_id}/members/{member_id}": Asked(200, image="shared"),
    "PUT /v2/images/{image_id}/members/{member_id}": Asked(200, {"json": {"status": "accepted"}}, "shared"),
    "DELETE /v2/images/{image_id}/members/{member_id}": Asked(204, image="shared"),
    "GET /v2/tasks": Asked(200),
    "GET /v2/tasks/{task_id}": Asked(200, image="queued"),
    "GET /v2/info/stores/detail": Asked(200),
}

SPECIAL = {
    (Action.PUBLICIZE_IMAGE, "PATCH /v2/images/{image_id}"): Asked(200, patch("visibility", "public")),
    (Action.PUBLICIZE_IMAGE, "POST /v2/images"): Asked(201, {"json": {**RAW, "visibility": "public"}}),
    (Action.COMMUNITIZE_IMAGE, "PATCH /v2/images/{image_id}"): Asked(200, patch("visibility", "community")),
    (Action.COMMUNITIZE_IMAGE, "POST /v2/images"): Asked(201, {"json": {**RAW, "visibility": "community"}}),
    (Action.COPY_IMAGE, "POST /v2/images/{image_id}/import"): Asked(202, asks_import("copy-image")),
    (Action.DELETE_IMAGE_LOCATION, "DELETE /v2/stores/{store}/{image_id}"): Asked(204, image="twice"),
    (Action.GET_IMAGE_LOCATION, "DELETE /v2/stores/{store}/{image_id}"): Asked(204, image="twice"),
    (Action.SET_IMAGE_LOCATION, "PATCH /v2/images/{image_id}"): Asked(
        200,
        patches({"op": "add", "path": "/locations/-", "value": {"url": "file:///x"}}),
        later="No store of this site",
    ),
    (Action.DELETE_IMAGE_LOCATION, "PATCH /v2/images/{image_id}"): Asked(
        200, patches({"op": "remove", "path": "/locations/0"}), "twice"
    ),
}
"""What an operation is sent when another rule decides about it."""

ASKED = [(rule.name, operation) for rule in RULES for operation in rule.operations]

# Who passes by default: the admin does everywhere.
PASS = {
    Action.ADD_IMAGE: {"member", "other"},
    Action.GET_IMAGE: {"member", "reader"},
    Action.GET_IMAGES: {"member", "reader", "other"},
    Action.MODIFY_IMAGE: {"member"},
    Action.DELETE_IMAGE: {"member"},
    Action.PUBLICIZE_IMAGE: set(),
    Action.COMMUNITIZE_IMAGE: {"member"},
    Action.UPLOAD_IMAGE: {"member"},
    Action.DOWNLOAD_IMAGE: {"member"},
    Action.COPY_IMAGE: set(),
    Action.GET_IMAGE_LOCATION: set(),
    Action.SET_IMAGE_LOCATION: {"member"},
    Action.DELETE_IMAGE_LOCATION: set(),
    Action.ADD_IMAGE_LOCATION: {"member", "service"},
    Action.FETCH_IMAGE_LOCATION: {"service"},
    Action.DEACTIVATE: {"member"},
    Action.REACTIVATE: {"member"},
    Action.TASKS_API_ACCESS: set(),
    Action.STORES_INFO_DETAIL: {"service"},
    Action.ADD_MEMBER: {"member"},
    Action.GET_MEMBER: {"member", "reader", "other"},
    Action.GET_MEMBERS: {"member", "reader", "other"},
    Action.MODIFY_MEMBER: {"other"},
    Action.DELETE_MEMBER: {"member"},
}

ELSEWHERE = {
    # A list of another project passes, without the image; and so does an image of its own.
    (Action.GET_IMAGE, "GET /v2/images"): {"other"},
    (Action.COMMUNITIZE_IMAGE, "POST /v2/images"): {"other"},
}
"""Who else passes an operation that is not about the image of ``demo``."""


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


class Site:
    """An API with Keystone and a policy file, and images of the project ``demo``.

    Attributes:
        refused_by: the rule that the last answer names.
    """

    def __init__(self, make_api: ApiMaker, keystone: Keystone, directory: Path, policies: str, **api: Any) -> None:
        self.file = directory / "policy.yaml"
        self.file.write_text(policies)
        section = {"auth": "keystone", "host": "0.0.0.0", "policy_file": self.file}
        section |= {"show_multiple_locations": True, **api}
        self.api: ImagesApi = make_api(api=section, auth=keystone.section)
        self.keystone = keystone
        self.refused_by = ""

    def call(self, caller: str, method: str, path: str, **sent: Any) -> httpx.Response:
        project, roles = ROLES[caller]
        headers = {
            "Accept": "application/json",
            "X-Auth-Token": self.keystone.token(project, caller, roles=roles),
            **sent.pop("headers", {}),
        }
        return self.api.client.request(method, path, headers=headers, **sent)

    def image(self, kind: str = "queued", **attributes: Any) -> str:
        """Add an image of the project to the catalogue; the policies in force may not let anybody create one."""
        seen_as = {"shared": Visibility.SHARED, "public": Visibility.PUBLIC, "open": Visibility.PUBLIC}
        values = {"visibility": seen_as.get(kind, Visibility.PRIVATE), **attributes}
        image_id = queued_image(self.api.catalog, owner="demo", tags=frozenset({"a-tag"}), **values).id
        if kind == "shared":
            with self.api.catalog.write() as connection:
                add_member(connection, Member(image_id, "other", MemberStatus.PENDING, NOW, NOW))
        elif kind not in ("queued", "open"):
            self.api.activate(image_id, DATA, ("fast", "archive") if kind == "twice" else ("fast",))
        return image_id

    def passes(self, caller: str, rule: str, operation: str) -> bool:
        """Send the operation; return whether it was not refused."""
        asked = SPECIAL.get((Action(rule), operation), OPERATIONS[operation])
        method, path = operation.split()
        image_id = self.image(asked.image)
        task_id = self.task(image_id) if "{task_id}" in path else ""
        path = path.format(image_id=image_id, tag="a-tag", store="archive", task_id=task_id, member_id="other")
        answer = self.call(caller, method, path, **asked.sent)
        named = re.search(r"You are not authorized to complete (\w+) action\.", answer.text)
        self.refused_by = named[1] if named else ""
        if asked.later and re.search(asked.later, answer.text):
            return True
        assert answer.status_code in (asked.passed, 403, 404), answer.text
        return answer.status_code == asked.passed

    def task(self, image_id: str) -> str:
        """Ask for an import as the project of the images; return the id of its task."""
        return ask_import(self.api.catalog, image_id, web_order(), Caller("demo"), NOW).id


@pytest.fixture
def site(make_api: ApiMaker, keystone: Keystone, tmp_path: Path) -> Site:
    """A site with an empty policy file, which tests fill in."""
    return Site(make_api, keystone, tmp_path, "{}")


def test_the_table_names_operations_that_exist_and_leaves_out_no_rule() -> None:
    assert {operation for _, operation in ASKED} == OPERATIONS.keys()
    assert {rule.name for rule in RULES if rule.operations} == set(Action)


@pytest.mark.parametrize(("rule", "operation"), ASKED, ids=lambda each: str(each).replace("/", "_"))
def test_by_default_a_rule_lets_the_same_callers_pass_as_in_glance(rule: str, operation: str, site: Site) -> None:
    passing = {caller for caller in ROLES if site.passes(caller, rule, operation)} - {"admin", "tester"}
    assert passing == PASS[Action(rule)] | ELSEWHERE.get((rule, operation), set())


@pytest.mark.parametrize(
    ("rule", "operation"),
    [(rule, operation) for rule, operation in ASKED if (rule, operation) != (Action.GET_IMAGE, "GET /v2/images")],
    ids=lambda each: str(each).replace("/", "_"),
)
def test_a_policy_file_decides_who_passes_and_the_answer_names_the_rule(rule: str, operation: str, site: Site) -> None:
    # The other rules that this operation asks must not refuse the tester, who is a member.
    others = "".join(f"{each}: 'role:member'\n" for each, asked in ASKED if asked == operation and each != rule)
    site.file.write_text(f"{others}{rule}: 'role:tester'\n")
    assert site.passes("tester", rule, operation)
    for caller in ("member", "admin"):
        assert not site.passes(caller, rule, operation)
        assert site.refused_by == ("" if rule in (Action.GET_IMAGE, Action.GET_MEMBER) else rule)


def test_other_projects_are_told_of_an_image_that_get_image_lets_them_see(site: Site) -> None:
    """A failed check is a 403 for who may be shown the image, and a 404 for the others."""
    path = f"/v2/images/{site.image('active', visibility=Visibility.PUBLIC)}"
    assert site.call("other", "DELETE", path).status_code == 403
    site.file.write_text("get_image: 'role:member and project_id:%(owner)s'")
    assert [site.call("other", method, path).status_code for method in ("DELETE", "GET")] == [404, 404]
    assert site.call("member", "GET", path).status_code == 200


def test_a_rule_that_is_open_to_everybody_lets_nobody_find_what_is_private(site: Site) -> None:
    site.file.write_text("modify_image: ''\ncopy_image: ''\nget_image: ''")
    private, public = site.image("active"), site.image("active", visibility=Visibility.PUBLIC)
    copied = [
        site.call("other", "POST", f"/v2/images/{image_id}/import", **asks_import("copy-image")).status_code
        for image_id in (private, public)
    ]
    assert copied == [404, 202]


def test_a_list_leaves_out_what_get_image_refuses(site: Site) -> None:
    mine, theirs = site.image(), queued_image(site.api.catalog, owner="other", visibility=Visibility.PUBLIC).id

    def listed(caller: str) -> set[str]:
        return {image["id"] for image in site.call(caller, "GET", "/v2/images").json()["images"]}

    assert listed("member") == {mine, theirs}
    site.file.write_text("get_image: 'project_id:%(owner)s'")
    assert listed("member") == {mine}
    assert [len(listed("admin")), listed("other")] == [0, {theirs}]


def test_who_may_use_the_tasks_api_finds_the_tasks_of_their_own_project(site: Site) -> None:
    site.file.write_text("tasks_api_access: 'role:member'")
    task_id = site.task(site.image())
    found = {
        caller: (
            [task["id"] for task in site.call(caller, "GET", "/v2/tasks").json()["tasks"]],
            site.call(caller, "GET", f"/v2/tasks/{task_id}").status_code,
            site.call(caller, "GET", f"/v2/tasks?marker={task_id}").status_code,
        )
        for caller in ("member", "other", "admin")
    }
    assert found == {"member": ([task_id], 200, 200), "other": ([], 404, 400), "admin": ([task_id], 200, 200)}


def test_who_is_admin_is_a_rule(site: Site) -> None:
    site.file.write_text("context_is_admin: 'role:tester'")
    image_id = queued_image(site.api.catalog, owner="other", visibility=Visibility.PRIVATE).id
    found = {caller: site.call(caller, "GET", f"/v2/images/{image_id}").status_code for caller in ("tester", "admin")}
    assert found == {"tester": 200, "admin": 404}


@pytest.mark.parametrize(("new", "statuses"), [(True, [404, 403, 404]), (False, [200, 200, 204])], ids=str)
def test_with_older_defaults_the_owners_project_needs_no_role(
    new: bool, statuses: list[int], make_api: ApiMaker, keystone: Keystone, tmp_path: Path
) -> None:
    site = Site(make_api, keystone, tmp_path, "{}", enforce_new_defaults=new)
    image_id = site.image()

    def statuses_of(caller: str) -> list[int]:
        return [
            site.call(caller, "GET", f"/v2/images/{image_id}").status_code,
            site.call(caller, "GET", "/v2/images").status_code,
            site.call(caller, "PUT", f"/v2/images/{image_id}/tags/new").status_code,
        ]

    assert statuses_of("auditor") == statuses


def test_with_older_defaults_only_the_owners_project_changes_an_image_whatever_the_rule_says(
    make_api: ApiMaker, keystone: Keystone, tmp_path: Path
) -> None:
    site = Site(make_api, keystone, tmp_path, "modify_image: ''", enforce_new_defaults=False)
    path = f"/v2/images/{site.image(visibility=Visibility.PUBLIC)}/tags/new"
    changed = {caller: site.call(caller, "PUT", path).status_code for caller in ("auditor", "other", "admin")}
    assert changed == {"auditor": 204, "other": 403, "admin": 204}


def test_the_founding_documents_uploaders_are_admins_a_user_and_services_with_a_role(site: Site) -> None:
    printed = policies_with("upload_image")
    site.file.write_text(printed.replace("<uuid of nova user>", "nova").replace("<service user role>", "uploader"))

    def uploaded(caller: str, *, service: str = "", roles: Sequence[str] = ()) -> int:
        token = site.keystone.token("service", service, roles=roles) if service else ""
        headers = {**BYTES_TYPE, **({"X-Service-Token": token} if token else {})}
        return site.call(caller, "PUT", f"/v2/images/{site.image()}/file", content=DATA, headers=headers).status_code

    assert uploaded("member") == 403
    assert uploaded("admin") == 204
    assert uploaded("member", service="nova", roles=["service"]) == 204
    assert uploaded("member", service="cinder", roles=["service"]) == 403
    assert uploaded("member", service="cinder", roles=["uploader"]) == 204
