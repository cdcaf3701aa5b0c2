"""What a project uses: counted from its images in any state, and claimed by one transaction at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.fakes.images import NOW, begun, new_image, queued_image, web_order
from tests.fakes.statements import Statements
from tests.fakes.together import at_once
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.endings import end_deleted, end_unheld, fail_import, finish_import
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image, insert_image, lock_image, mark_deleted
from transship.catalog.imports import Begun, Caller, Order, ask_import
from transship.catalog.journal import open_location, open_staged, reserve_staged, seal_staged
from transship.catalog.leases import expire_lease
from transship.catalog.quotas import refuse_claim, usage_of
from transship.catalog.uploads import Upload, begin_upload, end_lost_uploads, finish_stage, finish_upload
from transship.domain.errors import ImageCountExceeded, StorageExceeded, TransshipError
from transship.domain.image import Image, ImageStatus
from transship.domain.import_request import ImportRequest
from transship.domain.methods import ImportMethod
from transship.domain.quota import Claim, Limit, Quota, Resource

ROUNDS = 6
"""How often a race is run; each of its orders comes up in a few."""
BIG = 1 << 40


def facts(size: int) -> DataFacts:
    return DataFacts(size, None, None, "sha512", "ab" * 64, "raw", "bare")


def quota(**limits: int) -> Quota:
    return Quota(
        "p1", {Resource[name.upper()]: Limit(Resource[name.upper()].value, most) for name, most in limits.items()}
    )


def image_of(catalog: Catalog, owner: str = "p1", **changes: object) -> Image:
    return queued_image(catalog, owner=owner, **changes)


def active(catalog: Catalog, size: int, *stores: str, owner: str = "p1") -> Image:
    started = begun(catalog, image_of(catalog, owner), *stores)
    for store in stores:
        open_location(catalog, started.lease, store, f"file:///{store}/{started.image.id}", NOW)
        copy_written(catalog, started.lease, store, size, "", NOW)
    finish_import(catalog, started.lease, facts(size), {}, message="done", now=NOW, time_to_live_h=48)
    return started.image


def upload(
    catalog: Catalog, image: Image, status: ImageStatus, claim: Claim | None = None, ttl_s: float = 60
) -> Upload:
    return begin_upload(
        catalog, image.id, status, lambda _image: None, owner="test", host="here", ttl_s=ttl_s, now=NOW, claim=claim
    )


def reserve(catalog: Catalog, work: Upload | Begun, name: str, size: int, claim: Claim | None = None) -> None:
    reserve_staged(catalog, work.lease, name, "here", size, occupied=lambda _name: 0, available_bytes=BIG, claim=claim)


def download(catalog: Catalog, image: Image, size: int, *stores: str) -> Begun:
    """Begin a web-download that has reserved room for its data."""
    started = begun(catalog, image, *stores)
    name = f"{image.id}.source"
    open_staged(catalog, started.lease, name, "here", "source", "", NOW)
    reserve(catalog, started, name, size)
    return started


def used(catalog: Catalog, project: str = "p1") -> tuple[int, int, int, int]:
    with catalog.read() as connection:
        usage = usage_of(connection, project)
    return usage[Resource.SIZE], usage[Resource.STAGE], usage[Resource.COUNT], usage[Resource.UPLOADING]


def taken(catalog: Catalog, resource: str = "size") -> int:
    """Return what a claim of nothing, for a further image, finds in use."""
    with catalog.write() as connection, pytest.raises((StorageExceeded, ImageCountExceeded)) as refused:
        refuse_claim(connection, quota(**{resource: 0}).claim("further", **{resource: BIG}))
    return refused.value.used_bytes if isinstance(refused.value, StorageExceeded) else refused.value.used


def test_storage_counts_every_copy_of_the_projects_images_until_they_are_deleted(catalog: Catalog) -> None:
    gone = active(catalog, 7, "a", "b")
    active(catalog, 5, "a", "b", "c")
    active(catalog, 100, "a", owner="p2")
    image_of(catalog)
    assert used(catalog) == (7 * 2 + 5 * 3, 0, 3, 0)
    assert used(catalog, "p2") == (100, 0, 1, 0)
    with catalog.write() as connection:
        image = lock_image(connection, gone.id)
        mark_deleted(connection, gone.id, NOW)
        end_deleted(connection, image, now=NOW, time_to_live_h=48)
    assert used(catalog) == (15, 0, 2, 0)


def test_an_upload_to_a_store_takes_storage_from_its_reservation_until_it_ends(catalog: Catalog) -> None:
    image = image_of(catalog)
    begun_upload = upload(catalog, image, ImageStatus.SAVING)
    assert (used(catalog), taken(catalog)) == ((0, 0, 1, 1), 0)
    reserve(catalog, begun_upload, begun_upload.name, 40)
    assert (used(catalog), taken(catalog)) == ((0, 0, 1, 1), 40)
    open_location(catalog, begun_upload.lease, "a", "file:///a", NOW)
    copy_written(catalog, begun_upload.lease, "a", 30, "", NOW)
    assert taken(catalog) == 40
    finish_upload(catalog, begun_upload.lease, "a", facts(30), NOW)
    assert (used(catalog), taken(catalog)) == ((30, 0, 1, 0), 30)


def test_staged_data_take_staging_first_and_storage_for_each_store_from_the_request_on(catalog: Catalog) -> None:
    image = image_of(catalog)
    staged = upload(catalog, image, ImageStatus.UPLOADING)
    reserve(catalog, staged, staged.name, 40)
    assert (used(catalog), taken(catalog)) == ((0, 40, 1, 1), 0)
    finish_stage(catalog, staged, 30, None, NOW)
    assert (used(catalog), taken(catalog)) == ((0, 30, 1, 1), 0)
    request = ImportRequest(ImportMethod.GLANCE_DIRECT, stores=("a", "b"))
    ask_import(catalog, image.id, Order(request, ("a", "b")), Caller(), NOW)
    assert (used(catalog), taken(catalog)) == ((0, 30, 1, 1), 60)


def test_a_download_takes_staging_and_storage_for_each_store_that_does_not_show_it(catalog: Catalog) -> None:
    started = download(catalog, image_of(catalog), 10, "a", "b")
    assert (used(catalog), taken(catalog)) == ((0, 10, 1, 1), 20)
    seal_staged(catalog, started.lease, f"{started.image.id}.source", "here", 9)
    assert (used(catalog), taken(catalog)) == ((0, 9, 1, 1), 18)


def test_a_copy_to_more_stores_takes_staging_and_storage(catalog: Catalog) -> None:
    image = active(catalog, 10, "a")
    request = ImportRequest(ImportMethod.COPY_IMAGE, stores=("b", "c"))
    ask_import(catalog, image.id, Order(request, ("b", "c")), Caller(), NOW)
    assert (used(catalog), taken(catalog)) == ((10, 10, 1, 1), 30)


def failed(catalog: Catalog, started: Begun) -> None:
    fail_import(catalog, started.lease, "no", {}, rerunnable=False, now=NOW, time_to_live_h=48, rerun_ttl_s=60.0)


def killed(catalog: Catalog, started: Begun) -> None:
    expire_lease(catalog, started.lease)
    assert end_unheld(catalog, started.task.id, "lost", now=NOW, time_to_live_h=48)


def deleted(catalog: Catalog, started: Begun) -> None:
    with catalog.write() as connection:
        image = lock_image(connection, started.image.id)
        mark_deleted(connection, image.id, NOW)
        end_deleted(connection, image, now=NOW, time_to_live_h=48)


@pytest.mark.parametrize("end", [failed, killed, deleted])
def test_an_import_that_fails_or_is_killed_leaves_no_charge(
    end: Callable[[Catalog, Begun], None], catalog: Catalog
) -> None:
    started = download(catalog, image_of(catalog), 10, "a", "b")
    open_location(catalog, started.lease, "a", "file:///a", NOW)
    copy_written(catalog, started.lease, "a", 10, "", NOW)
    assert taken(catalog) == 20
    end(catalog, started)
    assert (used(catalog)[:2], used(catalog)[3]) == ((0, 0), 0)
    assert (taken(catalog), taken(catalog, "stage"), taken(catalog, "uploading")) == (0, 0, 0)


def test_an_upload_whose_process_died_leaves_no_charge(catalog: Catalog) -> None:
    lost = upload(catalog, image_of(catalog), ImageStatus.SAVING, ttl_s=-1.0)
    reserve(catalog, lost, lost.name, 10)
    assert taken(catalog) == 10
    assert end_lost_uploads(catalog, NOW) == [lost.image.id]
    assert (taken(catalog), used(catalog)) == (0, (0, 0, 1, 0))


def test_what_the_claiming_image_uses_itself_is_not_counted_twice(catalog: Catalog) -> None:
    started = download(catalog, image_of(catalog), 10, "a")

    limits = quota(size=10, stage=10, uploading=1)
    with catalog.write() as connection:
        refuse_claim(connection, limits.claim(started.image.id, size=10, stage=10, uploading=1))


def test_a_negative_limit_allows_everything_and_asks_the_catalogue_nothing(catalog: Catalog) -> None:
    active(catalog, 10, "a")
    with catalog.write() as connection, Statements(catalog.engine) as sent:
        refuse_claim(connection, quota(size=-1).claim("further", size=BIG, stage=BIG))
        refuse_claim(connection, None)
    assert not sent.made


def new(catalog: Catalog, limits: Quota) -> Callable[[], object]:
    image = new_image(owner="p1")

    def create() -> object:
        with catalog.write() as connection:
            refuse_claim(connection, limits.claim(image.id, count=1))
            insert_image(connection, image)
        return image

    return create


def test_of_images_made_at_the_same_time_only_as_many_as_allowed_are_made(catalog: Catalog) -> None:
    for most in range(1, ROUNDS):
        made = at_once(*[new(catalog, quota(count=most)) for _ in range(3)])
        assert [type(each) for each in made if isinstance(each, TransshipError)] == [ImageCountExceeded] * 2
        assert used(catalog)[2] == most


def beginning(catalog: Catalog, limits: Quota) -> Callable[[], object]:
    image = image_of(catalog)
    claim = limits.claim(image.id, size=1, uploading=1)
    return lambda: upload(catalog, image, ImageStatus.SAVING, claim, ttl_s=-1.0)


def test_of_uploads_that_begin_at_the_same_time_only_as_many_as_allowed_begin(catalog: Catalog) -> None:
    limits = quota(uploading=1)
    for _ in range(ROUNDS):
        begins = [beginning(catalog, limits) for _ in range(3)]
        done = at_once(*begins)
        assert [type(each) for each in done if isinstance(each, TransshipError)] == [ImageCountExceeded] * 2
        assert len(end_lost_uploads(catalog, NOW)) == 1


def reserving(catalog: Catalog, work: Upload, limits: Quota) -> Callable[[], object]:
    return lambda: reserve(catalog, work, work.name, 6, limits.claim(work.image.id, size=6))


def test_of_uploads_that_need_the_last_room_at_the_same_time_one_gets_it(catalog: Catalog) -> None:
    limits = quota(size=10)
    for _ in range(ROUNDS):
        works = [upload(catalog, image_of(catalog), ImageStatus.SAVING, ttl_s=60.0) for _ in range(3)]
        done = at_once(*[reserving(catalog, work, limits) for work in works])
        assert [type(each) for each in done if each is not None] == [StorageExceeded] * 2
        for work in works:
            expire_lease(catalog, work.lease)
        assert len(end_lost_uploads(catalog, NOW)) == 3


def asking(catalog: Catalog, image: Image, limits: Quota) -> Callable[[], object]:
    order = replace(web_order(), claim=limits.claim(image.id, size=0, stage=0, uploading=1))
    return lambda: ask_import(catalog, image.id, order, Caller(), NOW)


def test_of_imports_requested_at_the_same_time_one_gets_the_last_room(catalog: Catalog) -> None:
    limits = quota(size=10, stage=0, uploading=1)
    for _ in range(ROUNDS):
        images = [image_of(catalog) for _ in range(3)]

        done = at_once(*[asking(catalog, image, limits) for image in images])
        assert len([each for each in done if isinstance(each, ImageCountExceeded)]) == 2
        for image in images:
            with catalog.read() as connection:
                task = get_image(connection, image.id).import_task
            assert task is None or end_unheld(catalog, task, "next round", now=NOW, time_to_live_h=48)
