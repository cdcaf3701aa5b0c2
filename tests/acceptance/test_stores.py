"""Several stores: which are written, when the image becomes active, and the effect of a failing one."""

from __future__ import annotations

import hashlib

import pytest

from tests.fakes.system import until
from tests.fakes.yard import BODY, Yard
from transship.domain.errors import StoreDenied, StoreFull, StoreUnavailable
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real


def assert_queued_without_copies(yard: Yard, image_id: str, failed: str) -> None:
    assert yard.lists(image_id) == ("queued", "", "", failed)
    assert yard.holders(image_id) == []
    assert yard.rows(image_id) == {}
    image, task = yard.image(image_id), yard.task(image_id)
    assert (image.size, image.checksum, image.os_hash_value) == (None, None, None)
    assert (task.status, task.message) == (TaskStatus.FAILURE, image.import_message)
    assert yard.lease(image_id) == "free"


def assert_active(yard: Yard, image_id: str, stores: str, failed: str = "") -> None:
    assert yard.lists(image_id) == ("active", stores, "", failed)
    held = [store for store in stores.split(",") if store]
    assert sorted(yard.holders(image_id)) == sorted(held)
    assert yard.rows(image_id) == dict.fromkeys(sorted(held), "active")
    for store in held:
        assert hashlib.sha512(yard.stores[store].objects[image_id]).hexdigest() == yard.image(image_id).os_hash_value
    assert yard.lease(image_id) == "free"


# --- failure cases -----------------------------------------------------------------------------


def test_row_13_what_was_written_is_taken_back_and_the_download_is_kept_for_a_rerun(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    image_id, run_id = yard.brought("s1", "s2")
    assert_queued_without_copies(yard, image_id, "s1,s2")
    assert "store s2 is full" in yard.task(image_id).message
    assert len(yard.staged) == 1
    # The rule of strictness holds for reruns too: all stores are written, but nothing is downloaded again.
    yard.stores["s2"].repair()
    yard.forget_writes()
    assert yard.retry(run_id).name == "Imported"
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s1": 1, "s2": 1}
    assert len(yard.server.requests(yard.path)) == 1
    assert yard.staged == set()


def test_row_15_the_image_is_active_where_it_could_be_written(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    image_id, _ = yard.brought("s1", "s2", "s3", strict=False)
    assert_active(yard, image_id, "s3,s1", failed="s2")
    task = yard.task(image_id)
    assert task.status is TaskStatus.SUCCESS
    assert task.message.startswith("imported to s1, s3; failed: store s2 is full")
    assert yard.staged == set()


def test_row_17_an_image_that_no_store_took_is_queued_and_free(yard: Yard) -> None:
    for name in ("s1", "s2"):
        yard.stores[name].break_down(StoreDenied(name, "read-only file system"))
    image_id, _ = yard.brought("s1", "s2", strict=False)
    assert_queued_without_copies(yard, image_id, "s1,s2")
    assert yard.ask(image_id, stores=["s1"]).status_code == 202


def test_row_20_a_store_that_holds_other_bytes_than_were_written_has_failed(yard: Yard) -> None:
    yard.stores["s2"].truncate = 7
    image_id, _ = yard.brought("s1", "s2", strict=False)
    assert_active(yard, image_id, "s1", failed="s2")
    assert "store s2 holds other data than were written" in yard.task(image_id).message
    yard.stores["s2"].truncate = 0
    yard.copied(image_id, "s2")
    assert_active(yard, image_id, "s2,s1")


def test_row_21_data_of_another_format_reach_no_store(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2", disk_format="qcow2")
    assert_queued_without_copies(yard, image_id, "s1,s2")
    assert "declares disk_format qcow2" in yard.task(image_id).message
    assert (yard.writes(), yard.staged) == ({}, set())


def test_row_22_an_image_that_is_too_large_reaches_no_store(yard: Yard) -> None:
    yard.site.set(imports__image_size_cap_bytes="1000")
    image_id, _ = yard.brought("s1", "s2", strict=False)
    assert_queued_without_copies(yard, image_id, "s1,s2")
    assert (yard.writes(), yard.staged) == ({}, set())


@pytest.mark.parametrize(
    "error",
    [StoreFull("s1", 5), StoreDenied("s1", "not ours"), StoreUnavailable("s1", "no answer")],
    ids=["full", "denied", "away"],
)
def test_row_23_a_store_without_room_or_permission_is_named_with_its_reason(yard: Yard, error: Exception) -> None:
    yard.stores["s1"].break_down(error)
    image_id, _ = yard.brought("s1")
    assert_queued_without_copies(yard, image_id, "s1")
    assert yard.shown(image_id)["os_glance_import_message"] == str(error)
    assert yard.stores["s1"].temporaries == {}


def test_row_29_a_store_that_is_named_twice_is_a_400_and_nothing_begins(yard: Yard) -> None:
    image_id = yard.create()
    assert yard.ask(image_id, stores=["s1", "s1"]).status_code == 400
    assert (yard.shown(image_id)["status"], yard.lease(image_id), yard.tasks(image_id)) == ("queued", "free", [])


# --- acceptance cases --------------------------------------------------------------------------


def test_case_41_all_or_none_are_written_when_all_must_succeed(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    yard.stores["s2"].break_down(StoreDenied("s2", "not ours"))
    image_id, _ = yard.brought("s1", "s2", "s3")
    assert_queued_without_copies(yard, image_id, "s1,s2,s3")
    # What could not become active any more was not begun.
    assert yard.writes() == {"s1": 1, "s2": 1}


def test_case_42_the_image_is_active_in_the_first_store_and_the_second_is_listed_as_failed(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    yard.stores["s2"].break_down(StoreUnavailable("s2", "no answer"))
    image_id, _ = yard.brought("s1", "s2", strict=False)
    assert_active(yard, image_id, "s1", failed="s2")
    assert yard.task(image_id).status is TaskStatus.SUCCESS


def test_case_43_an_image_that_no_store_took_may_be_imported_again_at_once(yard: Yard) -> None:
    for name in ("s1", "s2"):
        yard.stores[name].break_down(StoreUnavailable(name, "no answer"))
    image_id, _ = yard.brought("s1", "s2", strict=False)
    assert_queued_without_copies(yard, image_id, "s1,s2")
    for store in yard.stores.values():
        store.repair()
    assert yard.ask(image_id, stores=["s3"]).status_code == 202
    yard.carry(image_id)
    assert_active(yard, image_id, "s3")


@pytest.mark.parametrize("at_once", ["1", "4"], ids=["one by one", "together"])
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "allow failure"])
def test_case_45_the_image_is_active_with_all_stores_or_with_the_first(yard: Yard, strict: bool, at_once: str) -> None:
    yard.site.set(imports__max_parallel_stores=at_once)
    image_id = yard.create()
    first = ("importing", "", "s2", "") if strict else ("active", "s1", "s2", "")
    seen: list[tuple[str, str, str, str]] = []

    def look() -> None:
        until(lambda: yard.lists(image_id) == first)
        seen.append(yard.lists(image_id))

    yard.stores["s2"].before_publishing = look
    yard.stores["s1"].before_publishing = lambda: seen.append(yard.lists(image_id))
    assert yard.ask(image_id, stores=["s1", "s2"], all_stores_must_succeed=strict).status_code == 202
    yard.carry(image_id)
    assert seen == [("importing", "", "s1,s2", ""), first]
    assert_active(yard, image_id, "s2,s1")


def test_case_50_stores_are_listed_and_read_by_their_weight(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s3", "s2")
    assert yard.shown(image_id)["stores"] == "s2,s3,s1"
    yard.forget_writes()
    assert yard.call("GET", f"/v2/images/{image_id}/file").content == BODY
    assert {name: len(store.calls) > 0 for name, store in yard.stores.items()} == {"s1": False, "s2": True, "s3": False}
