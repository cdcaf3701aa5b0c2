"""Many processes on one catalogue: in any order, nothing is lost and nothing is done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, func, select

from tests.fakes.databases import DATABASES
from tests.fakes.images import LOCAL, NOW, asked, begun, new_image, queued_image, read_image, web_order
from tests.fakes.together import at_once
from transship.catalog.copies import DataFacts, copy_written, prepare_copies
from transship.catalog.endings import end_deleted, end_unheld, finish_import, resume_or_end
from transship.catalog.engine import Catalog
from transship.catalog.images import lock_image, mark_deleted, update_image
from transship.catalog.imports import Begun, Caller, begin_by_hand, begin_import, inject_properties
from transship.catalog.journal import open_location, open_staged, remember_validators, reserve_staged, seal_staged
from transship.catalog.leases import Lease, expire_lease, lease_of, renew_lease, take_lease
from transship.catalog.outbox import OutboxKind, due, post
from transship.catalog.removal import removable_locations
from transship.catalog.schema import IMAGES, LEASES, LOCATIONS, OUTBOX, STAGED, TARGETS, TASKS
from transship.catalog.stores import mirror_store, mirrored_stores
from transship.catalog.tasks import get_task, tasks_of_image
from transship.domain.errors import (
    ImageChanged,
    ImageExists,
    ImageNotFound,
    ImportRunning,
    LockLost,
    StagingBusy,
    Superseded,
    TransshipError,
    WrongStatus,
)
from transship.domain.image import Image, ImageStatus
from transship.domain.task import TaskStatus

FACTS = DataFacts(10, 20, None, "sha512", "ab" * 64, "raw", "bare")
ROUNDS = 8
"""How often a race is run; each of its orders comes up in a few."""


def kinds(results: Iterable[object]) -> set[type]:
    return {type(result) for result in results if isinstance(result, TransshipError)}


def finish(catalog: Catalog, started: Begun) -> bool:
    finish_import(catalog, started.lease, FACTS, {}, message="done", now=NOW, time_to_live_h=48)
    return True


def patch(catalog: Catalog, image_id: str, **changes: object) -> bool:
    """Change an image as the API does."""
    with catalog.write() as connection:
        before = lock_image(connection, image_id)
        update_image(connection, before, replace(before, **changes), NOW)  # type: ignore[arg-type]  # tests choose
    return True


def delete(catalog: Catalog, image_id: str) -> bool:
    """Delete an image as the API does."""
    with catalog.write() as connection:
        image = lock_image(connection, image_id)
        mark_deleted(connection, image_id, NOW)
        end_deleted(connection, image, now=NOW, time_to_live_h=48)
    return True


def resume(catalog: Catalog, image_id: str) -> bool:
    return resume_or_end(catalog, image_id, "worker lost", crash_retries=9, now=NOW, time_to_live_h=48)


def stored(catalog: Catalog) -> Begun:
    """Begin an import and carry it until its store is written."""
    started = begun(catalog, queued_image(catalog))
    open_location(catalog, started.lease, "local", "file:///x", NOW)
    copy_written(catalog, started.lease, "local", 10, "link", NOW)
    return started


def status_of(catalog: Catalog, task_id: str) -> TaskStatus:
    with catalog.read() as connection:
        return get_task(connection, task_id).status


def test_of_many_processes_that_ask_for_one_image_exactly_one_wins(catalog: Catalog, tmp_path: Path) -> None:
    image = queued_image(catalog)
    code = (
        "import sys; from config.loading import load_settings; from tests.fakes.images import asked, read_image;"
        "from transship.catalog.engine import Catalog; from transship.domain.errors import ImportRunning\n"
        "catalog = Catalog.open(load_settings().settings); image = read_image(catalog, sys.argv[1])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: asked(catalog, image); print('won')\n"
        "except ImportRunning: print('lost')\n"
        "catalog.close()"
    )
    environment = {**os.environ, **DATABASES.environment(tmp_path), "TRANSSHIP_HOME": str(tmp_path)}
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", code, image.id],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in asking:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate(timeout=540)[0].strip() for process in asking) == ["lost", "lost", "lost", "won"]
    with catalog.read() as connection:
        assert len(tasks_of_image(connection, image.id, NOW)) == 1
        assert len(due(connection, 10)) == 1


def test_a_second_request_waits_for_the_first_and_is_judged_by_what_that_left(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        image = queued_image(catalog)
        results = at_once(*[lambda image=image: asked(catalog, image).id] * 8)
        assert kinds(results) == {ImportRunning}
        [won] = [result for result in results if isinstance(result, str)]
        assert read_image(catalog, image.id).import_task == won
        assert {error.task_id for error in results if isinstance(error, ImportRunning)} == {won}


def test_of_many_images_of_one_id_one_is_made(catalog: Catalog) -> None:
    image = new_image()
    results = at_once(*[lambda: queued_image(catalog, id=image.id)] * 6)
    assert [type(result) for result in results].count(ImageExists) == 5


def test_of_many_processes_that_begin_one_task_one_carries_it(catalog: Catalog) -> None:
    task, run_id = asked(catalog, queued_image(catalog)), str(uuid4())
    results = at_once(*[lambda: begin_import(catalog, task.id, run_id, "me", ttl_s=3600.0, now=NOW)] * 6)
    assert [type(result) for result in results].count(Superseded) == 5


def test_a_failed_run_that_is_begun_by_many_opens_one_new_task(catalog: Catalog) -> None:
    started = begun(catalog, queued_image(catalog))
    expire_lease(catalog, started.lease)
    resume_or_end(catalog, started.image.id, "lost", crash_retries=0, now=NOW, time_to_live_h=48)
    run_id = str(started.task.flow_run_id)
    results = at_once(*[lambda: begin_import(catalog, started.task.id, run_id, "me", ttl_s=3600.0, now=NOW)] * 6)
    assert [type(result) for result in results].count(Superseded) == 5
    with catalog.read() as connection:
        assert len(tasks_of_image(connection, started.image.id, NOW)) == 2


def test_a_run_by_hand_that_is_begun_by_many_makes_one_image(catalog: Catalog) -> None:
    run_id = str(uuid4())

    def begin() -> Begun:
        return begin_by_hand(
            catalog, new_image(), web_order().request, LOCAL, Caller(), run_id, "me", host="here", ttl_s=3600.0, now=NOW
        )

    results = at_once(*[begin] * 6)
    assert [type(result) for result in results].count(Superseded) == 5
    with catalog.read() as connection:
        assert connection.execute(select(func.count()).select_from(IMAGES)).scalar_one() == 1


def test_either_the_worker_renews_its_lease_or_it_is_taken_never_both(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        lease = begun(catalog, queued_image(catalog)).lease
        expire_lease(catalog, lease)

        def renew(lease: object = lease) -> bool:
            renew_lease(catalog, lease, 60.0)  # type: ignore[arg-type]  # the loop's lease
            return True

        renewed, taken = at_once(renew, lambda image_id=lease.image_id: resume(catalog, image_id))  # type: ignore[misc]
        assert (renewed is True) != (taken is True), (renewed, taken)
        with catalog.read() as connection:
            assert lease_of(connection, lease.image_id).live == (renewed is True)


def test_a_lost_import_that_many_keepers_find_is_resumed_once(catalog: Catalog) -> None:
    started = begun(catalog, queued_image(catalog))
    expire_lease(catalog, started.lease)
    image_id = started.image.id

    def resume_if_lost() -> bool:
        with catalog.read() as connection:
            lost = lease_of(connection, image_id).expired
        return lost and resume(catalog, image_id)

    at_once(*[resume_if_lost] * 6)
    with catalog.read() as connection:
        attempt = get_task(connection, started.task.id).attempt
        dispatches = {row.key for row in due(connection, 20)}
    assert dispatches == {f"{started.task.id}/{n}" for n in range(1, attempt + 1)}


def test_a_task_that_many_end_ends_once(catalog: Catalog) -> None:
    task = asked(catalog, queued_image(catalog))
    results = at_once(*[lambda: end_unheld(catalog, task.id, "no", now=NOW, time_to_live_h=48)] * 6)
    assert sorted(results, key=str) == [False] * 5 + [True]


def test_a_delete_during_the_finish_leaves_a_deleted_image_and_no_copy(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        started = stored(catalog)
        finished, deleted = at_once(
            lambda started=started: finish(catalog, started),  # type: ignore[misc]  # the loop's import
            lambda image_id=started.image.id: delete(catalog, image_id),  # type: ignore[misc]
        )
        assert deleted is True
        assert finished is True or isinstance(finished, LockLost)
        with pytest.raises(ImageNotFound):
            read_image(catalog, started.image.id)
        with catalog.read() as connection:
            states = connection.execute(select(IMAGES.c.status).where(IMAGES.c.id == started.image.id)).scalar_one()
            lease = connection.execute(select(LEASES).where(LEASES.c.image_id == started.image.id)).one()
            going = {row.image_id for row in removable_locations(connection, 0.0)}
        assert (states, lease.state, lease.task_id) == (ImageStatus.DELETED, "free", None)
        assert started.image.id in going
        ended = TaskStatus.SUCCESS if finished is True else TaskStatus.FAILURE
        assert status_of(catalog, started.task.id) is ended


def test_a_delete_during_a_request_ends_the_import_or_refuses_it(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        image = queued_image(catalog)
        requested, deleted = at_once(
            lambda image=image: asked(catalog, image).id,  # type: ignore[misc]  # the loop's image
            lambda image=image: delete(catalog, image.id),  # type: ignore[misc]
        )
        assert deleted is True
        if isinstance(requested, str):
            assert status_of(catalog, requested) is TaskStatus.FAILURE
        else:
            assert isinstance(requested, ImageNotFound)


def test_of_many_deletes_one_finds_the_image(catalog: Catalog) -> None:
    image = queued_image(catalog)
    results = at_once(*[lambda: delete(catalog, image.id)] * 6)
    assert [type(result) for result in results].count(ImageNotFound) == 5


def test_neither_a_patch_nor_the_finish_undoes_the_other(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        started = stored(catalog)
        image_id = started.image.id
        results = at_once(
            lambda started=started: finish(catalog, started),  # type: ignore[misc]  # the loop's import
            lambda image_id=image_id: patch(catalog, image_id, name="renamed", tags=frozenset({"new"})),  # type: ignore[misc]
        )
        assert results == [True, True]
        after = read_image(catalog, image_id)
        assert (after.status, after.size, after.name, after.tags) == (
            ImageStatus.ACTIVE,
            10,
            "renamed",
            frozenset({"new"}),
        )


def test_a_patch_and_an_injection_of_one_property_follow_each_other(catalog: Catalog) -> None:
    for _ in range(ROUNDS):
        started = begun(catalog, queued_image(catalog))
        image_id = started.image.id
        results = at_once(
            lambda started=started: inject_properties(catalog, started.lease, {"os_distro": "injected"}),  # type: ignore[misc]
            lambda image_id=image_id: patch(catalog, image_id, properties={"os_distro": "patched"}),  # type: ignore[misc]
        )
        assert results == [None, True]
        assert read_image(catalog, image_id).properties["os_distro"] in ("injected", "patched")


def test_patches_at_once_are_all_kept(catalog: Catalog) -> None:
    image = queued_image(catalog)

    def add_tag(tag: str) -> bool:
        with catalog.write() as connection:
            before = lock_image(connection, image.id)
            update_image(connection, before, replace(before, tags=before.tags | {tag}), NOW)
        return True

    assert at_once(*[lambda n=n: add_tag(f"tag-{n}") for n in range(8)]) == [True] * 8
    assert read_image(catalog, image.id).tags == {f"tag-{n}" for n in range(8)}


def test_of_patches_made_from_one_reading_the_first_wins(catalog: Catalog) -> None:
    image = queued_image(catalog)

    def rename(name: str) -> bool:
        with catalog.write() as connection:
            update_image(connection, image, replace(image, name=name), NOW)
        return True

    results = at_once(*[lambda n=n: rename(f"name-{n}") for n in range(6)])
    assert [type(result) for result in results].count(ImageChanged) == 5


def test_reservations_made_at_once_never_promise_more_than_there_is(catalog: Catalog) -> None:
    leases = [begun(catalog, queued_image(catalog)).lease for _ in range(6)]
    for host in ("one", "two", "three", "four"):
        for lease in leases:
            open_staged(catalog, lease, lease.image_id, host, "source", "", NOW)

        def reserve(lease: Lease, host: str = host) -> None:
            reserve_staged(catalog, lease, lease.image_id, host, 40, occupied=lambda _: 0, available_bytes=100)

        results = at_once(*[lambda lease=lease: reserve(lease) for lease in leases])
        assert [type(result) for result in results].count(StagingBusy) == 4


WRITES: Mapping[str, Callable[[Catalog, Lease], object]] = {
    "open_staged": lambda catalog, lease: open_staged(catalog, lease, "new", "here", "source", "", NOW),
    "open_staged again": lambda catalog, lease: open_staged(catalog, lease, "old", "here", "plugin", "", NOW),
    "reserve_staged": lambda catalog, lease: reserve_staged(
        catalog, lease, "old", "here", 40, occupied=lambda _: 0, available_bytes=100
    ),
    "remember_validators": lambda catalog, lease: remember_validators(catalog, lease, "old", "here", {"etag": "x"}),
    "seal_staged": lambda catalog, lease: seal_staged(catalog, lease, "old", "here", 40),
    "prepare_copies": lambda catalog, lease: prepare_copies(catalog, lease, ["fast", "slow"], NOW),
    "open_location": lambda catalog, lease: open_location(catalog, lease, "slow", "file:///x", NOW, fresh=True),
    "copy_written": lambda catalog, lease: copy_written(catalog, lease, "fast", 40, "copy", NOW),
    "finish_import": lambda catalog, lease: finish_import(
        catalog, lease, FACTS, {}, message="done", now=NOW, time_to_live_h=48
    ),
}
"""Writes of a worker that prove its lease in the statement that writes."""


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_worker_that_waits_while_its_lease_is_taken_writes_nothing(
    catalog: Catalog, write: Callable[[Catalog, Lease], object]
) -> None:
    started = begun(catalog, queued_image(catalog), "fast", "slow")
    open_staged(catalog, started.lease, "old", "here", "source", "", NOW)
    open_location(catalog, started.lease, "fast", "file:///x", NOW, fresh=True)
    taken = threading.Event()

    def rows(connection: Connection) -> list[object]:
        tables = (STAGED, TARGETS, LOCATIONS, LEASES, IMAGES, TASKS)
        return [connection.execute(select(table)).all() for table in tables]

    def take() -> list[object]:
        with catalog.write() as connection:
            take_lease(connection, started.image.id, started.task.id, "another worker", 60.0)
            left = rows(connection)
            taken.set()
            # Whoever does not wait for the lease writes now.
            time.sleep(0.3)
        return left

    def write_late() -> object:
        taken.wait()
        return write(catalog, started.lease)

    left, late = at_once(take, write_late)
    assert isinstance(late, LockLost)
    with catalog.read() as connection:
        assert rows(connection) == left


def test_one_row_stands_in_the_outbox_however_many_post_it_at_once(catalog: Catalog) -> None:
    def post_sweep() -> bool:
        with catalog.write() as connection:
            post(connection, OutboxKind.SWEEP, "sweep", None)
        return True

    assert at_once(*[post_sweep] * 8) == [True] * 8
    with catalog.read() as connection:
        assert connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one() == 1


def test_many_may_mirror_one_store_at_once(catalog: Catalog) -> None:
    def mirror(n: int) -> bool:
        with catalog.write() as connection:
            mirror_store(connection, catalog, "fast", f'{{"weight": {n}}}', NOW)
        return True

    assert at_once(*[lambda n=n: mirror(n) for n in range(6)]) == [True] * 6
    with catalog.read() as connection:
        assert list(mirrored_stores(connection, catalog)) == ["fast"]


def test_a_crowd_of_everything_ends_without_a_fault(catalog: Catalog) -> None:
    """Import, finish, patch, delete and lose imports of few images from many threads."""
    images: list[Image] = [queued_image(catalog) for _ in range(3)]

    def visit(n: int) -> None:
        image = images[n % len(images)]
        for step in range(6):
            try:
                match (n + step) % 5:
                    case 0:
                        finish(catalog, begun(catalog, image))
                    case 1:
                        patch(catalog, image.id, name=f"{n}-{step}")
                    case 2:
                        expire_lease(catalog, begun(catalog, image).lease)
                    case 3:
                        resume(catalog, image.id)
                    case 4 if step > 3:
                        delete(catalog, image.id)
            except TransshipError as error:
                if not isinstance(error, ImageNotFound | ImportRunning | LockLost | Superseded | WrongStatus):
                    raise

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(visit, range(8)))
