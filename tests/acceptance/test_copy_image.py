"""copy-image: an image with data is copied to more stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.founding_document import policies_with
from tests.fakes.yard import BODY, Yard
from transship.catalog.imports import Caller
from transship.domain.errors import (
    ObjectMissing,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real

MEMBER = Caller(project_id="p2", roles=("member", "reader"))


def assert_active(yard: Yard, image_id: str, stores: str, failed: str = "") -> None:
    assert yard.lists(image_id) == ("active", stores, "", failed)
    held = [store for store in stores.split(",") if store]
    assert sorted(yard.holders(image_id)) == sorted(held)
    assert yard.rows(image_id) == dict.fromkeys(sorted(held), "active")
    assert all(yard.stores[store].objects[image_id] == BODY for store in held)
    assert yard.lease(image_id) == "free"


# --- failure cases -----------------------------------------------------------------------------


def test_row_14_new_copies_are_taken_back_and_what_was_read_is_kept_for_a_rerun(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    yard.stores["s3"].break_down(StoreFull("s3", 5))
    run_id = yard.copied(image_id, "s2", "s3")
    assert_active(yard, image_id, "s1", failed="s2,s3")
    assert (yard.task(image_id).status, len(yard.staged)) == (TaskStatus.FAILURE, 1)
    yard.stores["s3"].repair()
    yard.forget_writes()
    assert yard.retry(run_id).message == "copied to s2, s3"
    assert_active(yard, image_id, "s2,s3,s1")
    # The data came from staging: nothing was read from s1 again.
    assert (yard.writes(), yard.stores["s1"].calls, yard.staged) == ({"s2": 1, "s3": 1}, [], set())


def test_row_18_an_active_image_that_no_store_took_stays_where_it_was(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    for name in ("s2", "s3"):
        yard.stores[name].break_down(StoreFull(name, 5))
    yard.copied(image_id, "s2", "s3", strict=False)
    assert_active(yard, image_id, "s1", failed="s2,s3")
    task = yard.task(image_id)
    assert task.status is TaskStatus.SUCCESS
    assert task.message.startswith("copied to no store; failed: store s2 is full")
    assert yard.staged == set()


def test_row_19_an_unreadable_source_is_passed_over_and_the_last_one_ends_the_task(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    yard.stores["s2"].break_down(StoreUnavailable("s2", "no answer"), on="size")
    yard.copied(image_id, "s3")
    assert yard.holders(image_id) == ["s1", "s2", "s3"]
    yard.stores["s2"].repair()
    assert yard.call("DELETE", f"/v2/stores/s3/{image_id}").status_code == 204
    for name in ("s1", "s2"):
        yard.stores[name].break_down(ObjectMissing(name, "gone"), on="size")
    yard.copied(image_id, "s3")
    assert_active(yard, image_id, "s2,s1", failed="s3")
    task = yard.task(image_id)
    assert task.status is TaskStatus.FAILURE
    assert task.message.startswith(f"image {image_id} cannot be read from any store: store s2 does not hold gone")
    assert yard.staged == set()


def test_row_39_an_image_that_is_deactivated_meanwhile_stays_so_and_has_its_copy(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    answers: list[int] = []

    def deactivate() -> None:
        answers.append(yard.call("POST", f"/v2/images/{image_id}/actions/deactivate").status_code)

    yard.stores["s2"].before_publishing = deactivate
    yard.copied(image_id, "s2")
    assert answers == [204]
    assert yard.lists(image_id) == ("deactivated", "s2,s1", "", "")
    assert (yard.task(image_id).status, yard.lease(image_id)) == (TaskStatus.SUCCESS, "free")
    assert yard.call("POST", f"/v2/images/{image_id}/actions/reactivate").status_code == 204
    assert_active(yard, image_id, "s2,s1")


# --- acceptance cases --------------------------------------------------------------------------


def test_case_44_a_store_that_cannot_be_written_is_never_a_target(yard: Yard) -> None:
    image_id = yard.create()
    assert yard.ask(image_id, all_stores=True).status_code == 202
    assert yard.task(image_id).input["backend"] == ["s1", "s2", "s3"]
    for reserved in ("os_glance_staging_store", "os_glance_tasks_store"):
        assert yard.ask(yard.create(), stores=[reserved]).status_code == 409


def test_case_46_who_may_copy_is_a_policy_and_the_owner_stays(yard: Yard, tmp_path: Path) -> None:
    image_id, _ = yard.brought("s1", visibility="public")
    yard.caller = MEMBER
    refused = yard.ask(image_id, "copy-image", stores=["s2"])
    assert (refused.status_code, "copy_image" in refused.text) == (403, True)
    private = yard.image(image_id)
    rules = tmp_path / "policy.yaml"
    rules.write_text(policies_with("copy_image"))
    yard.site.set(api__policy_file=str(rules))
    yard.serve()
    yard.copied(image_id, "s2")
    assert_active(yard, image_id, "s2,s1")
    assert (yard.image(image_id).owner, private.owner) == ("p1", "p1")


def test_case_47_a_copy_that_is_there_is_a_400_and_of_all_stores_none_is_left_to_write(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2", "s3")
    for body in ({"stores": ["s1"]}, {}):
        refused = yard.ask(image_id, "copy-image", **body)
        assert (refused.status_code, "already present at store 's1'" in refused.text) == (400, True)
    accepted = yard.ask(image_id, "copy-image", all_stores=True)
    assert (accepted.status_code, accepted.content) == (202, b"")
    assert (len(yard.tasks(image_id)), yard.lease(image_id)) == (1, "free")


def test_case_48_all_stores_hold_the_same_bytes_and_no_plugin_ran(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    before = yard.image(image_id)
    # It would change each image that it is given.
    yard.site.set(imports__plugins="inject_image_metadata", inject__properties='{"touched": "yes"}')
    yard.site.set(inject__ignore_user_roles="[]")
    assert yard.ask(image_id, "copy-image", all_stores=True).status_code == 202
    yard.carry(image_id)
    assert_active(yard, image_id, "s2,s3,s1")
    after = yard.image(image_id)
    assert (after.os_hash_value, after.checksum, after.size) == (before.os_hash_value, before.checksum, before.size)
    assert (after.properties, after.owner) == (before.properties, before.owner)


def test_case_49_a_strict_copy_that_failed_is_repeated_from_staging_after_the_repair(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    yard.stores["s2"].break_down(StoreDenied("s2", "not ours"))
    yard.copied(image_id, "s2")
    assert_active(yard, image_id, "s1", failed="s2")
    yard.stores["s2"].repair()
    yard.forget_writes()
    yard.copied(image_id, "s2")
    assert_active(yard, image_id, "s2,s1")
    assert (yard.writes(), yard.stores["s1"].calls) == ({"s2": 1}, [])
