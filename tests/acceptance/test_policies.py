"""The policies that the founding document prints, in the words it prints, and who may do what without them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.fakes.founding_document import policies_with, protections_of
from tests.fakes.yard import BODY, Yard
from transship.catalog.imports import Caller

pytestmark = pytest.mark.real

ADMIN = Caller(project_id="p1", roles=("admin", "member", "reader"))
MEMBER = Caller(project_id="p1", roles=("member", "reader"))
STRANGER = Caller(project_id="p2", roles=("member", "reader"))
SERVICE_OF_IMAGES = Caller(project_id="p1", roles=("member", "reader", "service_role"))
SERVICE = Caller(project_id="service", roles=("service",))


def put_file(yard: Yard, image_id: str) -> httpx.Response:
    return yard.call("PUT", f"/v2/images/{image_id}/file", BODY, **{"Content-Type": "application/octet-stream"})


def use(yard: Yard, directory: Path, rule: str) -> None:
    """Put the document's policies into force."""
    file = directory / "policy.yaml"
    file.write_text(policies_with(rule))
    yard.site.set(api__policy_file=str(file))
    yard.serve()


def test_members_must_import_if_the_documents_policy_restricts_uploads(yard: Yard, tmp_path: Path) -> None:
    yard.caller = MEMBER
    assert put_file(yard, yard.create()).status_code == 204
    use(yard, tmp_path, "upload_image")
    image_id = yard.create()
    refused = put_file(yard, image_id)
    assert refused.status_code == 403
    assert "You are not authorized to complete upload_image action." in refused.json()["message"]
    assert yard.ask(image_id).status_code == 202
    yard.carry(image_id)
    assert yard.lists(image_id)[0] == "active"
    yard.caller = ADMIN
    assert put_file(yard, yard.create()).status_code == 204


@pytest.mark.parametrize("printed", [False, True], ids=["default", "document"])
def test_case_72_only_admins_list_all_tasks_and_members_those_of_their_images(
    printed: bool, yard: Yard, tmp_path: Path
) -> None:
    if printed:
        use(yard, tmp_path, "tasks_api_access")
    yard.caller = MEMBER
    image_id, _ = yard.brought("s1")
    refused = yard.call("GET", "/v2/tasks")
    assert (refused.status_code, "tasks_api_access" in refused.text) == (403, True)
    assert len(yard.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]) == 1
    yard.caller = ADMIN
    assert len(yard.call("GET", "/v2/tasks").json()["tasks"]) == 1


def test_case_52_a_property_is_injected_that_only_admins_and_services_may_create(yard: Yard, tmp_path: Path) -> None:
    file = tmp_path / "property-protections.conf"
    # The document protects one property; without a section for the others, nobody could set these.
    file.write_text(protections_of("property1") + "\n[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n")
    yard.site.set(
        api__property_protection_file=str(file),
        imports__plugins="inject_image_metadata",
        inject__properties='{"property1": "value1"}',
    )
    yard.serve()
    yard.caller = MEMBER
    refused = yard.call("POST", "/v2/images", {"name": "own", "property1": "mine"})
    assert (refused.status_code, "Attribute 'property1' is reserved." in refused.text) == (403, True)
    image_id, _ = yard.brought("s1", other="mine")
    assert (yard.shown(image_id)["property1"], yard.shown(image_id)["other"]) == ("value1", "mine")
    patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    removal = json.dumps([{"op": "remove", "path": "/property1"}]).encode()
    statuses = []
    for caller in (MEMBER, SERVICE_OF_IMAGES, ADMIN):
        yard.caller = caller
        statuses.append(yard.call("PATCH", f"/v2/images/{image_id}", removal, **patch).status_code)
    assert statuses == [403, 403, 200]


def test_case_04_the_details_of_stores_are_for_admins_and_services(yard: Yard) -> None:
    answers = {}
    for caller in (MEMBER, SERVICE, ADMIN):
        yard.caller = caller
        answers[caller] = yard.call("GET", "/v2/info/stores/detail")
    assert answers[MEMBER].status_code == 403
    assert answers[SERVICE].json() == answers[ADMIN].json()
    assert {"type", "weight", "properties"} <= answers[SERVICE].json()["stores"][0].keys()


def test_case_12_an_import_into_another_projects_image_tells_of_it_only_if_it_is_open(yard: Yard) -> None:
    yard.caller = ADMIN
    images = {visibility: yard.create(visibility=visibility) for visibility in ("private", "shared", "public")}
    yard.caller = STRANGER
    answers = {visibility: yard.ask(image_id).status_code for visibility, image_id in images.items()}
    assert answers == {"private": 404, "shared": 404, "public": 403}
    yard.caller = MEMBER
    assert yard.ask(images["private"]).status_code == 202
