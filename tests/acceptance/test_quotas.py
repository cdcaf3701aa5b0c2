"""Quotas of projects: unified limits in Keystone, checked before, while and after data arrive."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import pytest

from tests.fakes.asked_imports import AskedImports
from tests.fakes.keystone import Keystone
from tests.fakes.running_import import staging_names
from tests.fakes.web_server import Talk, WebServer
from transship.domain.image import ImageStatus
from transship.domain.quota import MIB
from transship.domain.task import TaskStatus
from transship.identity import unified_limits

pytestmark = [
    pytest.mark.real,
    # openstacksdk, which reads the limits, warns about its own future.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BODY = os.urandom(2 * MIB)


@pytest.fixture
def keystone(imports: AskedImports, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keystone]:
    """A Keystone whose limits, here of the caller's project, apply to the very next check."""
    monkeypatch.setattr(unified_limits, "KEPT_S", -1.0)
    with Keystone() as running:
        running.limits = dict.fromkeys(
            ("image_size_total", "image_stage_total", "image_count_total", "image_count_uploading"), 100
        )
        imports.token = running.token("demo")
        login = {f"auth__{option}": value for option, value in running.section.items()}
        imports.site.set(api__auth="keystone", quota__unified_limits="true", **login)
        yield running


def assert_refused(imports: AskedImports, image_id: str, limit: str, status: ImageStatus = ImageStatus.QUEUED) -> None:
    image, task = imports.image(image_id), imports.task(image_id)
    assert (image.status, image.importing_to, image.import_message) == (status, (), task.message)
    assert (task.status, imports.lease(image_id)) == (TaskStatus.FAILURE, "free")
    assert f"the project's quota {limit} would be exceeded" in task.message
    assert "delete images that are no longer needed, or ask the operator to raise the quota" in task.message
    assert staging_names(imports.site.settings) == set()
    for name in ("image_size_total", "image_stage_total", "image_count_uploading"):
        stored = 2 if name == "image_size_total" and status is ImageStatus.ACTIVE else 0
        assert imports.api("GET", "/v2/info/usage").json()["usage"][name]["usage"] == stored


def test_row_27_a_quota_lowered_before_the_import_begins_ends_it_and_the_image_can_be_staged_again(
    imports: AskedImports, keystone: Keystone
) -> None:
    image_id = imports.create()
    assert imports.stage(image_id, BODY).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    keystone.project_limits = {"demo": {"image_size_total": 1}}
    assert imports.carry(image_id).is_failed()
    assert_refused(imports, image_id, "image_size_total")
    keystone.project_limits = {}
    assert imports.stage(image_id, BODY).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_completed()
    assert imports.site.stored() == {image_id: BODY}


def test_row_27_a_copy_over_the_quota_leaves_the_image_active(imports: AskedImports, keystone: Keystone) -> None:
    two = '{"local": {"dir": "%s"}, "other": {"dir": "%s"}}'
    imports.site.set(stores=two % (imports.site.home / "images", imports.site.home / "other"))
    image_id = imports.create()
    assert imports.stage(image_id, BODY).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_completed()
    imports.token = keystone.token("demo", "root", roles=["admin"])
    asked = {"method": {"name": "copy-image"}, "stores": ["other"]}
    assert imports.api("POST", f"/v2/images/{image_id}/import", json=asked).status_code == 202
    keystone.project_limits = {"demo": {"image_size_total": 3}}
    assert imports.carry(image_id).is_failed()
    assert_refused(imports, image_id, "image_size_total", ImageStatus.ACTIVE)
    assert (imports.site.stored("local"), imports.site.stored("other")) == ({image_id: BODY}, {})


def test_case_66_staging_and_imports_beyond_the_quota_are_a_413(
    imports: AskedImports, keystone: Keystone, server: WebServer
) -> None:
    keystone.limits.update(image_stage_total=1, image_size_total=2)
    image_id = imports.create()
    assert imports.stage(image_id, BODY).status_code == 413
    assert imports.image(image_id).status is ImageStatus.QUEUED
    keystone.limits.update(image_stage_total=2)
    assert imports.stage(image_id, BODY).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_completed()
    keystone.limits.update(image_size_total=1)
    another = imports.create()
    answer = imports.ask(another, server.serve("/a.img", BODY))
    assert (answer.status_code, imports.tasks(another)) == (413, [])
    assert imports.image(another).status is ImageStatus.QUEUED


def no_length(talk: Talk) -> None:
    talk.head(200, {"Connection": "close"})
    for _ in range(64):
        talk.send(b"x" * MIB)


@pytest.mark.parametrize("limit", ["image_size_total", "image_stage_total"])
@pytest.mark.parametrize("announced", [True, False])
def test_case_67_a_download_beyond_the_quota_ends_with_its_text_and_the_image_is_queued(
    announced: bool, limit: str, imports: AskedImports, keystone: Keystone, server: WebServer
) -> None:
    keystone.limits[limit] = 1
    uri = server.serve("/a.img", BODY) if announced else server.on("/a.img", no_length)
    state, image_id = imports.bring(uri)
    assert state.is_failed()
    assert_refused(imports, image_id, limit)


def test_case_67_data_that_grow_beyond_the_quota_are_refused_and_can_be_staged_again(
    imports: AskedImports, keystone: Keystone
) -> None:
    imports.site.set(imports__plugins="image_decompression")
    keystone.limits["image_size_total"] = 1
    image_id = imports.create()
    assert imports.stage(image_id, gzip.compress(b"x" * (2 * MIB))).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_failed()
    assert_refused(imports, image_id, "image_size_total")
    assert imports.site.stored() == {}
    assert imports.stage(image_id, gzip.compress(b"x" * MIB)).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_completed()


def test_case_67_while_keystone_is_away_uploaded_data_are_kept_and_can_be_imported_later(
    imports: AskedImports, keystone: Keystone
) -> None:
    image_id = imports.create()
    assert imports.stage(image_id, BODY).status_code == 204
    assert imports.ask_direct(image_id).status_code == 202
    keystone.broken = 503
    assert imports.carry(image_id).is_failed()
    image = imports.image(image_id)
    assert (image.status, imports.lease(image_id)) == (ImageStatus.UPLOADING, "free")
    assert "it cannot be asked for the project's limits" in (image.import_message or "")
    keystone.broken = 0
    assert imports.ask_direct(image_id).status_code == 202
    assert imports.carry(image_id).is_completed()
    assert imports.site.stored() == {image_id: BODY}
