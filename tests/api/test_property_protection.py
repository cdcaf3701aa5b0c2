"""Extra properties that are protected from callers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.images import queued_image
from tests.fakes.images_api import ApiMaker
from tests.fakes.keystone import Keystone
from transship.api.policy import Policy
from transship.api.protection import PropertyProtection
from transship.api.protection_file import protections_in
from transship.domain.errors import ConfigurationRefused
from transship.domain.image import Visibility

ROLES = {
    "admin": ["admin", "member", "reader"],
    "keeper": ["keeper", "member", "reader"],
    "member": ["member", "reader"],
}
BY_ROLES = """
[^secret_]
create = admin, Keeper
read = admin,keeper
update = admin
delete = !

[licence]
create = @
read = @
update = keeper
delete =

[^os_glance_x]
create = @
read = @
update = @
delete = @

[^free$]
create = @
read = @
update = @
delete = @
"""
BY_POLICIES = """
[licence]
create = keepers
read = @
update = keepers
delete = !
"""
PATCH_TYPE = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with Keystone() as running:
        yield running


class Site:
    """An API with Keystone and protections; all callers are in one project."""

    def __init__(self, make_api: ApiMaker, keystone: Keystone, directory: Path, protections: str, **api: Any) -> None:
        self.file = directory / "protections.conf"
        self.file.write_text(protections)
        section = {"auth": "keystone", "host": "0.0.0.0", "property_protection_file": self.file, **api}
        self.api = make_api(api=section, auth=keystone.section)
        self._keystone = keystone

    def image(self, **properties: str) -> str:
        image = queued_image(self.api.catalog, owner="demo", visibility=Visibility.PRIVATE, properties=properties)
        return image.id

    def call(self, role: str, method: str, path: str = "", body: object = None, **headers: str) -> httpx.Response:
        token = self._keystone.token("demo", role, roles=ROLES[role])
        sent = {"Accept": "application/json", "X-Auth-Token": token, **headers}
        content = None if body is None else json.dumps(body)
        return self.api.client.request(method, f"/v2/images{path}", headers=sent, content=content)

    def patch(self, role: str, image_id: str, verb: str, name: str) -> int:
        change = {"op": verb, "path": f"/{name}", **({} if verb == "remove" else {"value": "new"})}
        return self.call(role, "PATCH", f"/{image_id}", [change], **PATCH_TYPE).status_code


@pytest.fixture
def site(make_api: ApiMaker, keystone: Keystone, tmp_path: Path) -> Site:
    return Site(make_api, keystone, tmp_path, BY_ROLES)


@pytest.mark.parametrize(
    ("name", "creators"),
    [
        ("secret_key", {"admin", "keeper"}),
        ("my_licence", {"admin", "keeper", "member"}),
        ("free", {"admin", "keeper", "member"}),
        ("freedom", set()),
    ],
)
def test_the_first_section_that_is_found_in_the_name_decides_who_creates(
    name: str, creators: set[str], site: Site
) -> None:
    statuses = {role: site.call(role, "POST", body={"visibility": "private", name: "v"}).status_code for role in ROLES}
    assert statuses == {role: 201 if role in creators else 403 for role in ROLES}
    added = {role: site.patch(role, site.image(), "add", name) for role in ROLES}
    assert added == {role: 200 if role in creators else 403 for role in ROLES}


def test_what_may_not_be_read_is_not_shown_and_survives_changes(site: Site) -> None:
    image_id = site.image(secret_key="hidden", free="1", unheard="2")
    assert site.patch("member", image_id, "replace", "free") == 200
    for role, seen in {"admin": {"secret_key", "free"}, "keeper": {"secret_key", "free"}, "member": {"free"}}.items():
        (listed,) = site.call(role, "GET").json()["images"]
        shown = site.call(role, "GET", f"/{image_id}").json()
        assert (
            listed.keys() & {"secret_key", "free", "unheard"}
            == shown.keys() & {"secret_key", "free", "unheard"}
            == seen
        )
    assert site.call("admin", "GET", f"/{image_id}").json()["secret_key"] == "hidden"


@pytest.mark.parametrize(
    ("verb", "name", "permitted"),
    [
        ("replace", "secret_key", {"admin"}),
        ("add", "secret_key", {"admin"}),
        ("replace", "licence", {"keeper"}),
        ("remove", "secret_key", set()),
        ("remove", "licence", set()),
        ("remove", "free", {"admin", "keeper", "member"}),
    ],
)
def test_changes_and_removals_are_judged(verb: str, name: str, permitted: set[str], site: Site) -> None:
    statuses = {role: site.patch(role, site.image(**{name: "old"}), verb, name) for role in ROLES}
    assert statuses == {role: 200 if role in permitted else 403 for role in ROLES}


def test_policies_can_protect_properties(make_api: ApiMaker, keystone: Keystone, tmp_path: Path) -> None:
    policies = tmp_path / "policy.yaml"
    policies.write_text("keepers: 'role:keeper and project_id:%(owner)s'")
    site = Site(
        make_api, keystone, tmp_path, BY_POLICIES, property_protection_rule_format="policies", policy_file=policies
    )
    changed = {role: site.patch(role, site.image(licence="old"), "replace", "licence") for role in ROLES}
    assert changed == {"admin": 403, "keeper": 200, "member": 403}


FOUR = "create = admin\nread = @\nupdate = admin\ndelete = !\n"


@pytest.mark.parametrize(
    ("text", "by_policy", "reason"),
    [
        ("create = admin", False, "no section headers"),
        (f"[a(]\n{FOUR}", False, "not a regular expression"),
        ("[a]\nread = @\n", False, "does not say who may create, update, delete"),
        (f"[a]\n{FOUR}".replace("read = @", "read = @,member"), False, "stand alone"),
        (f"[a]\n{FOUR}".replace("delete = !", "delete = admin,!"), False, "stand alone"),
        (f"[a]\n{FOUR}".replace("read = @", "read = one,two"), True, "names several policies"),
        (f"[a]\n{FOUR}[a]\n{FOUR}", False, "already exists"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(text: str, by_policy: bool, reason: str) -> None:
    with pytest.raises(ConfigurationRefused, match=reason):
        protections_in(text, Path("/etc/protections.conf"), by_policy=by_policy)


def test_a_missing_file_and_an_unknown_policy_stop_the_start(make_api: ApiMaker, tmp_path: Path) -> None:
    file = tmp_path / "protections.conf"
    with pytest.raises(ConfigurationRefused, match="cannot be read"):
        make_api(api={"property_protection_file": file})
    file.write_text(f"[a]\n{FOUR}")
    with pytest.raises(ConfigurationRefused, match="names the policy admin, which does not exist"):
        make_api(api={"property_protection_file": file, "property_protection_rule_format": "policies"})


def test_the_text_in_the_settings_in_force_is_used_until_the_next_reload(make_api: ApiMaker, tmp_path: Path) -> None:
    settings = make_api().settings.api.model_copy(update={"property_protection_file": tmp_path / "gone.conf"})
    assert PropertyProtection.of(settings, Policy(None), f"[a]\n{FOUR}").protections
