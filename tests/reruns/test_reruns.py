"""What a further attempt repeats: only what failed, however the previous one ended."""

from __future__ import annotations

import gzip
from uuid import UUID

import pytest

from tests.fakes.images import NOW
from tests.fakes.notifications import told
from tests.fakes.web_server import whole
from tests.fakes.yard import BODY, Yard
from transship.catalog.endings import resume_or_end
from transship.catalog.tasks import read_secrets
from transship.domain.errors import ImportCancelled, ImportInterrupted, StoreDenied, StoreFull, StoreUnavailable
from transship.domain.image import ImageStatus
from transship.domain.task import TaskStatus

pytestmark = pytest.mark.real


def assert_active(yard: Yard, image_id: str, stores: str, failed: str = "") -> None:
    assert yard.lists(image_id) == ("active", stores, "", failed)
    held = [store for store in stores.split(",") if store]
    assert sorted(yard.holders(image_id)) == sorted(held)
    assert yard.rows(image_id) == dict.fromkeys(sorted(held), "active")
    assert all(yard.stores[store].objects[image_id] == BODY for store in held)
    assert yard.lease(image_id) == "free"


def test_a_retry_writes_the_store_that_failed_and_no_other(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    image_id, run_id = yard.brought("s1", "s2", strict=False)
    yard.stores["s2"].repair()
    yard.forget_writes()
    assert yard.retry(run_id).message == "copied to s2"
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s2": 1}
    newest, oldest = yard.tasks(image_id)
    assert (newest.method, newest.status, newest.flow_run_id) == ("copy-image", TaskStatus.SUCCESS, str(run_id))
    assert (oldest.status, oldest.request_id) == (TaskStatus.SUCCESS, newest.request_id)
    assert len(yard.server.requests(yard.path)) == 1
    # Once more there is nothing to do.
    assert yard.retry(run_id).name == "Superseded"
    assert yard.writes() == {"s2": 1}


def test_a_retry_whose_store_fails_again_changes_nothing_else(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    image_id, run_id = yard.brought("s1", "s2", strict=False)
    yard.forget_writes()
    assert yard.retry(run_id).message == f"copied to no store; failed: {StoreFull('s2', 5)}"
    assert_active(yard, image_id, "s1", failed="s2")
    assert yard.writes() == {"s2": 1}


def test_a_retry_after_staging_was_lost_downloads_again(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreUnavailable("s2", "no answer"))
    image_id, run_id = yard.brought("s1", "s2")
    yard.wipe_staging()
    yard.stores["s2"].repair()
    yard.server.on(yard.path, whole(BODY))
    assert yard.retry(run_id).name == "Imported"
    assert_active(yard, image_id, "s2,s1")


def test_an_image_that_no_store_lacks_any_more_forgets_its_source(yard: Yard) -> None:
    yard.stores["s2"].break_down(StoreFull("s2", 5))
    image_id, run_id = yard.brought("s1", "s2", strict=False)
    yard.stores["s2"].repair()
    yard.retry(run_id)
    assert yard.image(image_id).status is ImageStatus.ACTIVE
    with yard.site.catalog.read() as connection:
        assert [read_secrets(connection, yard.site.catalog, task.id) for task in yard.tasks(image_id)] == [{}, {}]


def test_data_that_changed_in_a_store_are_copied_to_no_other(yard: Yard) -> None:
    image_id, _ = yard.brought("s1", "s2")
    yard.stores["s2"].objects[image_id] = bytes(len(BODY))
    yard.copied(image_id, "s3", strict=False)
    assert yard.stores["s3"].objects[image_id] == BODY
    assert yard.task(image_id).status is TaskStatus.SUCCESS
    yard.call("DELETE", f"/v2/stores/s3/{image_id}")
    yard.stores["s1"].objects[image_id] = bytes(len(BODY))
    yard.copied(image_id, "s3")
    assert yard.lists(image_id) == ("active", "s2,s1", "", "s3")
    assert "are not the image's" in yard.task(image_id).message
    assert (image_id in yard.stores["s3"].objects, yard.staged) == (False, set())


def test_zeros_of_an_image_that_is_copied_take_no_room_in_staging(yard: Yard) -> None:
    data = bytes(8 << 20) + BODY[1:] + bytes((4 << 20) + 7)
    yard.uri = yard.server.serve("/sparse.raw", data)
    image_id, _ = yard.brought("s1")
    staged: list[tuple[int, bool]] = []

    def look() -> None:
        (name,) = yard.staged
        status = (yard.settings.staging_dir / name).stat()
        staged.append((status.st_size, status.st_blocks * 512 < 2 * len(BODY)))

    yard.stores["s2"].before_publishing = look
    yard.copied(image_id, "s2")
    assert staged == [(len(data), True)]
    assert yard.stores["s2"].objects[image_id] == data


def test_a_copy_that_is_being_made_is_a_400_and_another_one_a_409(yard: Yard) -> None:
    image_id, _ = yard.brought("s1")
    assert yard.ask(image_id, "copy-image", stores=["s2"]).status_code == 202
    assert yard.ask(image_id, "copy-image", stores=["s2"]).status_code == 400
    assert yard.ask(image_id, "copy-image", stores=["s3"]).status_code == 409
    assert yard.ask(image_id, "copy-image", all_stores=True).status_code == 409
    assert yard.ask(image_id).status_code == 409


def test_stores_that_are_not_asked_for_stay_listed_as_failed(yard: Yard) -> None:
    for name in ("s2", "s3"):
        yard.stores[name].break_down(StoreFull(name, 5))
    image_id, _ = yard.brought("s1", "s2", "s3", strict=False)
    yard.stores["s2"].repair()
    yard.copied(image_id, "s2")
    assert_active(yard, image_id, "s2,s1", failed="s3")


def test_a_copy_whose_worker_was_killed_goes_on_with_what_is_lacking(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    image_id, _ = yard.brought("s1")
    assert yard.ask(image_id, "copy-image", stores=["s2", "s3"], all_stores_must_succeed=False).status_code == 202
    yard.stores["s3"].fail(ImportInterrupted("the worker was killed"))
    run_id = yard.carry(image_id)
    assert yard.lists(image_id) == ("active", "s2,s1", "s3", "")
    assert resume_or_end(yard.site.catalog, image_id, "lost", crash_retries=3, now=NOW, time_to_live_h=1)
    yard.wipe_staging()
    yard.forget_writes()
    assert yard.retry(run_id).name == "Imported"
    assert_active(yard, image_id, "s2,s3,s1")
    assert yard.writes() == {"s3": 1}
    assert len(yard.tasks(image_id)) == 2


def test_an_import_whose_worker_was_killed_after_the_first_store_keeps_it(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    image_id = yard.create()
    assert yard.ask(image_id, stores=["s1", "s2"], all_stores_must_succeed=False).status_code == 202
    yard.stores["s2"].fail(ImportInterrupted("the worker was killed"))
    run_id = yard.carry(image_id)
    assert resume_or_end(yard.site.catalog, image_id, "lost", crash_retries=3, now=NOW, time_to_live_h=1)
    yard.forget_writes()
    assert yard.retry(run_id).name == "Imported"
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s2": 1}
    (task,) = yard.tasks(image_id)
    assert task.progress is not None
    assert [(store.store, store.phase) for store in task.progress.stores] == [("s1", "done"), ("s2", "done")]
    assert task.progress.percent == 100.0


def test_a_strict_import_whose_worker_was_killed_does_not_write_again_what_was_written(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    image_id = yard.create()
    assert yard.ask(image_id, stores=["s1", "s2"]).status_code == 202
    yard.stores["s2"].fail(ImportInterrupted("the worker was killed"))
    run_id = yard.carry(image_id)
    assert yard.lists(image_id) == ("importing", "", "s2", "")
    assert resume_or_end(yard.site.catalog, image_id, "lost", crash_retries=3, now=NOW, time_to_live_h=1)
    yard.forget_writes()
    assert yard.retry(run_id).name == "Imported"
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s2": 1}


def killed_after_the_first_store(yard: Yard, *, packed: bool) -> tuple[str, UUID]:
    """Let the worker of an import to s1 and s2, of which both must succeed, die when s1 is written."""
    yard.site.set(imports__max_parallel_stores="1")
    if packed:
        # What a plugin makes is made anew, under a new name: what the stores hold may be other bytes.
        yard.site.set(imports__plugins="image_decompression")
        yard.server.serve(yard.path, gzip.compress(BODY))
    image_id = yard.create()
    assert yard.ask(image_id, stores=["s1", "s2"]).status_code == 202
    yard.stores["s2"].fail(ImportInterrupted("the worker was killed"))
    run_id = yard.carry(image_id)
    assert yard.lists(image_id) == ("importing", "", "s2", "")
    assert resume_or_end(yard.site.catalog, image_id, "lost", crash_retries=3, now=NOW, time_to_live_h=1)
    if not packed:
        yard.wipe_staging()
    yard.forget_writes()
    return image_id, run_id


def of_stores(yard: Yard, after: int) -> list[tuple[str, str | None]]:
    """Return type and store of the notifications about single stores."""
    found = [each for each in told(yard.site.catalog)[after:] if each.store]
    return [(each.event_type + (" ERROR" if each.priority == "ERROR" else ""), each.store) for each in found]


@pytest.mark.parametrize("packed", [True, False], ids=["changed by a plugin", "staging lost"])
def test_a_store_that_a_resumed_import_writes_again_is_listed_meanwhile(yard: Yard, packed: bool) -> None:
    image_id, run_id = killed_after_the_first_store(yard, packed=packed)
    already, seen = len(told(yard.site.catalog)), []
    yard.stores["s1"].before_publishing = lambda: seen.append(yard.lists(image_id))
    assert yard.retry(run_id).name == "Imported"
    assert seen == [("importing", "", "s1,s2", "")]
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s1": 1, "s2": 1}
    assert of_stores(yard, already) == [("image.prepare", "s1"), ("image.upload", "s1"), ("image.upload", "s2")]


@pytest.mark.parametrize("method", ["put", "size"])
def test_a_store_that_fails_a_resumed_import_is_told_of_though_it_was_written_before(yard: Yard, method: str) -> None:
    image_id, run_id = killed_after_the_first_store(yard, packed=method == "put")
    already = len(told(yard.site.catalog))
    yard.stores["s1"].break_down(StoreDenied("s1", "not ours"), on=method)
    assert yard.retry(run_id).is_failed()
    assert of_stores(yard, already).count(("image.upload ERROR", "s1")) == 1
    lists = [
        each.payload["properties"]["os_glance_failed_import"]
        for each in told(yard.site.catalog)[already:]
        if each.event_type == "image.update" and isinstance(each.payload, dict)
    ]
    assert lists[-2:] == ["s1", "s1,s2"]
    assert yard.lists(image_id) == ("queued", "", "", "s1,s2")


def test_a_copy_that_was_cancelled_is_made_by_a_retry(yard: Yard) -> None:
    yard.site.set(imports__max_parallel_stores="1")
    image_id = yard.create()
    assert yard.ask(image_id, stores=["s1", "s2"], all_stores_must_succeed=False).status_code == 202
    yard.stores["s2"].fail(ImportCancelled("by hand"))
    run_id = yard.carry(image_id)
    # The first store had made the image active, and clients may use it already.
    assert_active(yard, image_id, "s1", failed="s2")
    task = yard.task(image_id)
    assert (task.status, task.message) == (TaskStatus.FAILURE, "the import was cancelled: by hand")
    yard.forget_writes()
    assert yard.retry(run_id).message == "copied to s2"
    assert_active(yard, image_id, "s2,s1")
    assert yard.writes() == {"s2": 1}
