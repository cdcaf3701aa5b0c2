from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select

from tests.fakes.images import LOCAL, NOW, asked, begun, new_image, queued_image, read_image, web_order
from tests.fakes.notifications import notification_drivers, told, types_told
from tests.fakes.running_import import begin_again
from transship.catalog.copies import DataFacts, activate_copies, copy_failed, copy_written, prepare_copies
from transship.catalog.endings import end_deleted, end_unheld, fail_import, finish_import, resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image, mark_deleted, update_image
from transship.catalog.imports import Begun, Caller, Order, ask_import, begin_by_hand, begin_import
from transship.catalog.journal import (
    open_location,
    open_staged,
    remember_validators,
    reserve_staged,
    seal_staged,
)
from transship.catalog.leases import expire_lease, expired_leases, lease_of, renew_lease
from transship.catalog.outbox import OutboxKind, due
from transship.catalog.removal import removable_locations, scrap_of_host
from transship.catalog.schema import NOTIFICATIONS, STAGED
from transship.catalog.tasks import get_task, read_secrets, tasks_of_image
from transship.domain.errors import (
    AlreadyBeingCopied,
    FormatMissing,
    ImageNotFound,
    ImportRunning,
    LockLost,
    StagingFull,
    Superseded,
    TransshipError,
    WrongStatus,
)
from transship.domain.image import ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.task import ImportTask, TaskStatus

__all__ = ["notification_drivers"]

FACTS = DataFacts(10, 20, "d41d8cd98f00b204e9800998ecf8427e", "sha512", "ab" * 64, "raw", "bare")


def finish(catalog: Catalog, lease: object, failed: dict[str, str] | None = None) -> None:
    finish_import(catalog, lease, FACTS, failed or {}, message="done", now=NOW, time_to_live_h=48)  # type: ignore[arg-type]


def fail(catalog: Catalog, lease: object, message: str = "disk full", *, rerunnable: bool = False) -> None:
    fail_import(
        catalog,
        lease,  # type: ignore[arg-type]
        message,
        {},
        rerunnable=rerunnable,
        now=NOW,
        time_to_live_h=48,
        rerun_ttl_s=60.0,
    )


def task_now(catalog: Catalog, task: ImportTask) -> ImportTask:
    with catalog.read() as connection:
        return get_task(connection, task.id)


def resume(catalog: Catalog, image_id: str, *, crash_retries: int = 1) -> bool:
    return resume_or_end(catalog, image_id, "worker lost", crash_retries=crash_retries, now=NOW, time_to_live_h=48)


def test_asking_locks_the_image_and_leaves_one_dispatch(catalog: Catalog) -> None:
    image = queued_image(catalog)
    task = asked(catalog, image, "fast", "slow")
    after = read_image(catalog, image.id)
    assert (after.status, after.import_task) == (ImageStatus.IMPORTING, task.id)
    assert (after.importing_to, after.failed_import) == (("fast", "slow"), ())
    with catalog.read() as connection:
        assert [(row.kind, row.task_id) for row in due(connection, 10)] == [(OutboxKind.DISPATCH, task.id)]


def test_the_full_uri_is_kept_encrypted_and_apart_from_the_task(catalog: Catalog) -> None:
    image = queued_image(catalog)
    task = ask_import(catalog, image.id, web_order("http://h/x?token=secret"), Caller(), NOW)
    assert "secret" not in str(task.input)
    with catalog.read() as connection:
        assert read_secrets(connection, catalog, task.id)["uri"] == "http://h/x?token=secret"
        raw = connection.exec_driver_sql("select ciphertext from secrets").scalar_one()
    assert b"secret" not in raw


def test_a_second_import_is_refused_and_changes_nothing(catalog: Catalog) -> None:
    image = queued_image(catalog)
    first = asked(catalog, image)
    before = read_image(catalog, image.id)
    with pytest.raises(ImportRunning) as refused:
        asked(catalog, image, "other")
    assert refused.value.task_id == first.id
    assert read_image(catalog, image.id) == before


def test_of_many_requests_at_once_exactly_one_wins(catalog: Catalog) -> None:
    image = queued_image(catalog)

    def ask(_: int) -> bool:
        try:
            asked(catalog, image)
        except ImportRunning:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(16))) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"status": ImageStatus.ACTIVE}, WrongStatus, id="active"),
        pytest.param({"status": ImageStatus.UPLOADING}, WrongStatus, id="uploading"),
        pytest.param({"disk_format": None}, FormatMissing, id="no disk format"),
        pytest.param({"container_format": None}, FormatMissing, id="no container format"),
    ],
)
def test_asking_refuses_what_the_state_does_not_allow(
    catalog: Catalog, changes: dict[str, object], error: type[TransshipError]
) -> None:
    image = queued_image(catalog, **changes)
    with pytest.raises(error):
        asked(catalog, image)
    with catalog.read() as connection:
        assert due(connection, 10) == []


def test_of_two_requests_for_one_copy_the_later_is_told_that_it_is_being_made(catalog: Catalog) -> None:
    """Both may have been checked before either was accepted."""
    image = queued_image(catalog, status=ImageStatus.ACTIVE)
    copies = {
        store: Order(ImportRequest(ImportMethod.COPY_IMAGE, stores=(store,)), (store,)) for store in ("archive", "fast")
    }
    first = ask_import(catalog, image.id, copies["archive"], Caller(), NOW)
    with pytest.raises(AlreadyBeingCopied) as refused:
        ask_import(catalog, image.id, copies["archive"], Caller(), NOW)
    assert (refused.value.store, refused.value.task_id) == ("archive", first.id)
    with pytest.raises(ImportRunning):
        ask_import(catalog, image.id, copies["fast"], Caller(), NOW)


def test_asking_for_an_unknown_image_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ImageNotFound):
        asked(catalog, new_image())


def test_begin_takes_the_lease_under_a_new_epoch(catalog: Catalog) -> None:
    image = queued_image(catalog)
    task = asked(catalog, image)
    run_id = str(uuid4())
    started = begin_import(catalog, task.id, run_id, "me", ttl_s=3600.0, now=NOW)
    with catalog.read() as connection:
        lease = lease_of(connection, image.id)
    assert (lease.live, lease.epoch, lease.owner) == (True, started.lease.epoch, "me")
    assert (started.task.status, started.task.flow_run_id) == (TaskStatus.PROCESSING, run_id)
    assert started.uri == "http://source.example/debian.img"


def test_begin_leaves_a_live_import_of_another_process_alone(catalog: Catalog) -> None:
    image = queued_image(catalog)
    first = begun(catalog, image)
    with pytest.raises(Superseded, match="another process"):
        begin_import(catalog, first.task.id, str(first.task.flow_run_id), "other", ttl_s=3600.0, now=NOW)
    renew_lease(catalog, first.lease, 60.0)


def test_finish_makes_the_image_active_with_what_the_stores_hold(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image, "fast", "slow")
    for store in ("fast", "slow"):
        open_location(catalog, started.lease, store, f"file:///{store}/x", NOW)
        copy_written(catalog, started.lease, store, 10, "link", NOW)
    finish(catalog, started.lease)
    after = read_image(catalog, image.id)
    assert (after.status, after.size, after.virtual_size, after.os_hash_value) == (
        ImageStatus.ACTIVE,
        10,
        20,
        "ab" * 64,
    )
    assert [location.store for location in after.locations] == ["fast", "slow"]
    assert (after.importing_to, after.failed_import, after.import_task) == ((), (), None)
    ended = task_now(catalog, started.task)
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": image.id})
    with catalog.read() as connection:
        assert "uri" not in read_secrets(connection, catalog, started.task.id)


def test_finish_lists_stores_that_were_allowed_to_fail(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image, "fast", "slow")
    finish(catalog, started.lease, {"slow": "full"})
    assert read_image(catalog, image.id).failed_import == ("slow",)


def test_a_failed_import_leaves_the_image_free_with_the_reason(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image, "fast", "slow")
    open_location(catalog, started.lease, "fast", "file:///fast/x", NOW)
    fail(catalog, started.lease)
    after = read_image(catalog, image.id)
    assert (after.status, after.import_message, after.import_task) == (ImageStatus.QUEUED, "disk full", None)
    assert (after.importing_to, after.failed_import) == ((), ("fast", "slow"))
    assert after.locations == ()
    ended = task_now(catalog, started.task)
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "disk full")
    assert begun(catalog, image).lease.epoch > started.lease.epoch


@pytest.mark.parametrize(
    "step", ["finish", "fail", "prepare", "written", "store failed", "show", "location", "staged", "renew", "expire"]
)
def test_a_stale_worker_changes_nothing(catalog: Catalog, step: str) -> None:
    image = queued_image(catalog)
    stale = begun(catalog, image).lease
    expire_lease(catalog, stale)
    assert resume(catalog, image.id)
    before = read_image(catalog, image.id)
    steps = {
        "finish": lambda: finish(catalog, stale),
        "fail": lambda: fail(catalog, stale),
        "prepare": lambda: prepare_copies(catalog, stale, ["local"], NOW),
        "written": lambda: copy_written(catalog, stale, "local", 1, "link", NOW),
        "store failed": lambda: copy_failed(catalog, stale, "local", "full", NOW),
        "show": lambda: activate_copies(catalog, stale, ["local"], FACTS, None, NOW),
        "location": lambda: open_location(catalog, stale, "local", "file:///x", NOW),
        "staged": lambda: open_staged(catalog, stale, "x", "here", "source", "", NOW),
        "renew": lambda: renew_lease(catalog, stale, 60.0),
        "expire": lambda: expire_lease(catalog, stale),
    }
    with pytest.raises(LockLost):
        steps[step]()
    assert read_image(catalog, image.id) == before


def test_an_expired_lease_that_nobody_took_may_be_renewed(catalog: Catalog) -> None:
    lease = begun(catalog, queued_image(catalog)).lease
    expire_lease(catalog, lease)
    renew_lease(catalog, lease, 60.0)
    with catalog.read() as connection:
        assert expired_leases(connection) == []


def test_a_lost_import_is_resumed_as_the_same_task_and_then_ended(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image)
    expire_lease(catalog, started.lease)
    assert resume(catalog, image.id)
    waiting = task_now(catalog, started.task)
    assert (waiting.status, waiting.attempt) == (TaskStatus.PENDING, 2)
    assert read_image(catalog, image.id).status is ImageStatus.IMPORTING
    again = begin_import(catalog, started.task.id, str(started.task.flow_run_id), "new", ttl_s=3600.0, now=NOW)
    expire_lease(catalog, again.lease)
    assert not resume(catalog, image.id)
    after = read_image(catalog, image.id)
    assert (after.status, after.import_task) == (ImageStatus.QUEUED, None)
    assert "resumed 1 times" in str(after.import_message)


@pytest.mark.parametrize("how", ["resume", "end"])
def test_an_import_that_is_ended_without_its_worker_keeps_what_a_rerun_can_use(catalog: Catalog, how: str) -> None:
    started = begun(catalog, queued_image(catalog))
    lease, image_id, until = started.lease, started.image.id, timedelta(seconds=60)
    roles = {"whole": "source", "continued": "source", "without validators": "source", "unpacked": "decompress"}
    for name, role in roles.items():
        open_staged(catalog, lease, name, "here", role, "", NOW)
    seal_staged(catalog, lease, "whole", "here", 5)
    remember_validators(catalog, lease, "continued", "here", {"etag": '"v1"'})
    remember_validators(catalog, lease, "without validators", "here", None)
    expire_lease(catalog, lease)
    how_long = {"now": NOW, "time_to_live_h": 48, "rerun_ttl_s": until.total_seconds()}
    if how == "resume":
        assert not resume_or_end(catalog, image_id, "worker lost", crash_retries=0, **how_long)
    else:
        assert end_unheld(catalog, started.task.id, "cancelled", **how_long)
    with catalog.read() as connection:
        kept = dict(
            connection.execute(select(STAGED.c.name, STAGED.c.keep_until).where(STAGED.c.state != "scrap")).all()
        )
    assert kept == {"whole": NOW + until, "continued": NOW + until}


def test_a_live_import_is_never_resumed_or_ended_from_outside(catalog: Catalog) -> None:
    started = begun(catalog, queued_image(catalog))
    assert not resume(catalog, started.image.id)
    assert not end_unheld(catalog, started.task.id, "no", now=NOW, time_to_live_h=48)
    assert task_now(catalog, started.task).status is TaskStatus.PROCESSING


def test_a_retry_of_a_failed_run_opens_a_new_task_on_the_same_run(catalog: Catalog) -> None:
    image = queued_image(catalog)
    first = begun(catalog, image, "fast")
    fail(catalog, first.lease, "store away", rerunnable=True)
    run_id = str(first.task.flow_run_id)
    second = begin_import(catalog, first.task.id, run_id, "me", ttl_s=3600.0, now=NOW)
    assert second.task.id != first.task.id
    assert (second.task.attempt, second.task.flow_run_id, second.uri) == (2, run_id, first.uri)
    assert second.targets == ("fast",)
    assert task_now(catalog, first.task).status is TaskStatus.FAILURE
    with catalog.read() as connection:
        assert len(tasks_of_image(connection, image.id, NOW)) == 2


def test_a_retry_of_a_refused_input_says_to_start_a_new_import(catalog: Catalog) -> None:
    first = begun(catalog, queued_image(catalog))
    fail(catalog, first.lease, "not a disk image")
    with pytest.raises(Superseded, match="start a new import"):
        begin_import(catalog, first.task.id, str(first.task.flow_run_id), "me", ttl_s=3600.0, now=NOW)


def test_a_retry_after_a_newer_import_does_nothing(catalog: Catalog) -> None:
    image = queued_image(catalog)
    first = begun(catalog, image)
    fail(catalog, first.lease, "store away", rerunnable=True)
    second = begun(catalog, image)
    with pytest.raises(Superseded, match="imported again"):
        begin_import(catalog, first.task.id, str(first.task.flow_run_id), "me", ttl_s=3600.0, now=NOW)
    renew_lease(catalog, second.lease, 60.0)


def test_a_retry_of_a_finished_run_does_nothing(catalog: Catalog) -> None:
    first = begun(catalog, queued_image(catalog))
    finish(catalog, first.lease)
    with pytest.raises(Superseded, match="succeeded"):
        begin_import(catalog, first.task.id, str(first.task.flow_run_id), "me", ttl_s=3600.0, now=NOW)


def test_a_run_started_by_hand_makes_one_image_however_often_it_is_begun(catalog: Catalog) -> None:
    run_id = str(uuid4())

    def begin(owner: str) -> str:
        started = begin_by_hand(
            catalog,
            new_image(),
            web_order().request,
            LOCAL,
            Caller(),
            run_id,
            owner,
            host="here",
            ttl_s=3600.0,
            now=NOW,
        )
        expire_lease(catalog, started.lease)
        return started.image.id

    assert begin("first") == begin("second")


def test_a_patch_made_during_an_import_survives_it(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image)
    before = read_image(catalog, image.id)
    with catalog.write() as connection:
        update_image(connection, before, replace(before, name="renamed", properties={"os_distro": "debian"}), NOW)
    finish(catalog, started.lease)
    after = read_image(catalog, image.id)
    assert (after.name, after.properties, after.status) == ("renamed", {"os_distro": "debian"}, ImageStatus.ACTIVE)


def test_deleting_an_image_ends_its_import_and_hands_its_copies_to_removal(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image)
    open_location(catalog, started.lease, "local", "file:///x", NOW)
    open_staged(catalog, started.lease, "x", "here", "source", "", NOW)
    with catalog.write() as connection:
        end_deleted(connection, read_image(catalog, image.id), now=NOW, time_to_live_h=48)
        mark_deleted(connection, image.id, NOW)
    with pytest.raises(LockLost):
        finish(catalog, started.lease)
    ended = task_now(catalog, started.task)
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "the image was deleted")
    with catalog.read() as connection:
        assert [row.url for row in removable_locations(connection, 0.0)] == ["file:///x"]
        assert [row.name for row in scrap_of_host(connection, "here")] == ["x"]
        kinds = {row.kind for row in due(connection, 10)}
    assert {OutboxKind.CANCEL, OutboxKind.SWEEP} <= kinds


@pytest.mark.parametrize(("host", "swept"), [("here", False), ("elsewhere", True)])
@pytest.mark.parametrize("end", [finish, fail])
def test_an_import_has_other_hosts_remove_what_its_earlier_attempts_left_there(
    catalog: Catalog, end: Callable[[Catalog, object], None], host: str, swept: bool
) -> None:
    task = asked(catalog, queued_image(catalog))
    started = begin_import(catalog, task.id, str(uuid4()), "here pid 7 a1b2c3d4", ttl_s=3600.0, now=NOW)
    open_staged(catalog, started.lease, "x", host, "source", "", NOW)
    end(catalog, started.lease)
    with catalog.read() as connection:
        assert [row.name for row in scrap_of_host(connection, host)] == ["x"]
        assert (OutboxKind.SWEEP in {row.kind for row in due(connection, 10)}) is swept


def test_deleting_an_image_forgets_the_secrets_of_an_import_that_could_have_been_repeated(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image)
    fail_import(
        catalog,
        started.lease,
        "a store is full",
        {},
        rerunnable=True,
        now=NOW,
        time_to_live_h=48,
        rerun_ttl_s=60.0,
    )
    with catalog.write() as connection:
        assert read_secrets(connection, catalog, started.task.id)["uri"]
        end_deleted(connection, get_image(connection, image.id), now=NOW, time_to_live_h=48)
        assert "uri" not in read_secrets(connection, catalog, started.task.id)


def test_stores_are_listed_as_being_imported_to_until_the_last_of_them_is_written_and_seen(catalog: Catalog) -> None:
    image = queued_image(catalog)
    started = begun(catalog, image, "fast", "slow")
    for store, listed in (("fast", ("slow",)), ("slow", ("slow",))):
        copy_written(catalog, started.lease, store, 5, "copy", NOW)
        assert read_image(catalog, image.id).importing_to == listed
    finish(catalog, started.lease)
    assert read_image(catalog, image.id).importing_to == ()


def test_stores_are_listed_by_name_and_written_in_the_order_asked_for(catalog: Catalog) -> None:
    order = ("slow", "b_2", "b-1", "a", "Z")
    started = begun(catalog, queued_image(catalog), *order)
    assert started.targets == order
    assert read_image(catalog, started.image.id).importing_to == ("Z", "a", "b-1", "b_2", "slow")
    prepare_copies(catalog, started.lease, order, NOW)
    (first, *_) = [each for each in told(catalog) if each.event_type == "image.prepare"]
    assert isinstance(first.payload, dict)
    assert (first.store, first.payload["os_glance_importing_to_stores"]) == ("slow", ["Z", "a", "b-1", "b_2", "slow"])
    fail(catalog, started.lease)
    assert read_image(catalog, started.image.id).failed_import == ("Z", "a", "b-1", "b_2", "slow")


def with_a_copy_done(catalog: Catalog) -> Begun:
    """An import that all stores must succeed in, begun again after the first of them was written."""
    started = begun(catalog, queued_image(catalog), "fast", "slow")
    prepare_copies(catalog, started.lease, ["fast", "slow"], NOW)
    open_location(catalog, started.lease, "fast", "file:///fast/x", NOW)
    copy_written(catalog, started.lease, "fast", 10, "link", NOW)
    again = begin_again(catalog, started.lease)
    prepare_copies(catalog, again.lease, ["fast", "slow"], NOW)
    assert read_image(catalog, again.image.id).importing_to == ("slow",)
    with catalog.write() as connection:
        connection.execute(NOTIFICATIONS.delete())
    return again


def test_a_store_that_has_to_be_written_again_is_listed_and_told_of_again(catalog: Catalog) -> None:
    started = with_a_copy_done(catalog)
    open_location(catalog, started.lease, "fast", "file:///fast/x", NOW)
    assert read_image(catalog, started.image.id).importing_to == ("fast", "slow")
    copy_written(catalog, started.lease, "fast", 10, "link", NOW)
    assert read_image(catalog, started.image.id).importing_to == ("slow",)
    assert types_told(catalog) == ["image.prepare", "image.upload", "image.update"]


def test_the_last_copy_that_has_to_be_written_again_is_told_of_once(catalog: Catalog) -> None:
    started = with_a_copy_done(catalog)
    for _ in range(2):
        open_location(catalog, started.lease, "slow", "file:///slow/x", NOW)
        copy_written(catalog, started.lease, "slow", 10, "link", NOW)
        assert read_image(catalog, started.image.id).importing_to == ("slow",)
    assert types_told(catalog) == []
    finish(catalog, started.lease)
    assert types_told(catalog).count("image.upload") == 1


@pytest.mark.parametrize("rewritten", [True, False])
def test_a_store_that_fails_after_an_earlier_attempt_wrote_it_is_listed_and_told_of_once(
    catalog: Catalog, rewritten: bool
) -> None:
    started = with_a_copy_done(catalog)
    if rewritten:
        open_location(catalog, started.lease, "fast", "file:///fast/x", NOW)
    for _ in range(2):
        copy_failed(catalog, started.lease, "fast", "full", NOW)
    image = read_image(catalog, started.image.id)
    assert (image.importing_to, image.failed_import) == (("slow",), ("fast",))
    assert types_told(catalog) == [*(["image.prepare"] if rewritten else []), "image.upload ERROR", "image.update"]


def test_a_copy_that_clients_see_does_not_fail_any_more(catalog: Catalog) -> None:
    started = begun(catalog, queued_image(catalog), "fast", "slow")
    open_location(catalog, started.lease, "fast", "file:///fast/x", NOW)
    copy_written(catalog, started.lease, "fast", 10, "link", NOW)
    activate_copies(catalog, started.lease, ["fast"], FACTS, None, NOW)
    copy_failed(catalog, started.lease, "fast", "full", NOW)
    image = read_image(catalog, started.image.id)
    assert (image.importing_to, image.failed_import) == (("slow",), ())
    assert [location.store for location in image.locations] == ["fast"]


def test_reservations_of_several_imports_add_up(catalog: Catalog) -> None:
    one, two = begun(catalog, queued_image(catalog)).lease, begun(catalog, queued_image(catalog)).lease
    for name, lease in (("one", one), ("two", two)):
        open_staged(catalog, lease, name, "here", "source", "", NOW)
    reserve_staged(catalog, one, "one", "here", 60, occupied=lambda _: 0, available_bytes=100)
    with pytest.raises(StagingFull) as full:
        reserve_staged(catalog, two, "two", "here", 50, occupied=lambda _: 0, available_bytes=100)
    assert (full.value.needed_bytes, full.value.available_bytes) == (50, 40)
    written = {"one": 30, "two": 0}
    # What the first import has written already is no longer free, so it is not promised any more.
    reserve_staged(catalog, two, "two", "here", 40, occupied=written.__getitem__, available_bytes=70)
