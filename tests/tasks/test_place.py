"""Writing to a store, taking it back, and making the image active."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.finish import finish
from tasks.place import place, unplace
from tasks.session import ImportSession
from tests.fakes.images import read_image
from tests.fakes.running_import import (
    SOURCE,
    begin,
    begin_again,
    easy_settings,
    file_stores,
    final_of,
    location,
    session_of,
    staged_file,
    steal,
)
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun
from transship.catalog.journal import LocationRow
from transship.catalog.leases import lease_of
from transship.catalog.tasks import get_task
from transship.domain.errors import (
    AlreadyStored,
    ImportCancelled,
    LockLost,
    StagingBroken,
    StoreMisconfigured,
    StoreUnavailable,
)
from transship.domain.image import ImageStatus
from transship.domain.import_data import Copies, Digests, SealedFile
from transship.domain.task import StoreProgress, TaskStatus
from transship.host.directories import MARK

DATA = os.urandom(50_000)


def stored(settings: Settings, store: str = "local") -> dict[str, bytes]:
    """Return the contents of a file store by name, without its mark."""
    found = settings.all_stores[store].dir.iterdir()
    return {path.name: path.read_bytes() for path in found if path.name != MARK}


def row_of(session: ImportSession, store: str = "local") -> LocationRow:
    row = location(session.catalog, session.lease.image_id, store)
    assert row is not None
    return row


def leave(session: ImportSession, name: str, content: bytes) -> Path:
    directory = session.settings.all_stores["local"].dir
    (directory / name).write_bytes(content)
    return directory / name


def shown(session: ImportSession) -> list[StoreProgress]:
    """Return the board's progress of stores, without the speed."""
    return [replace(store, rate=0, left_s=None) for store in session.board.now.stores]


# --- place -------------------------------------------------------------------------------------


def test_the_store_holds_the_data_and_the_journal_says_so(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, DATA)).value.url
    assert stored(session.settings) == {session.lease.image_id: DATA}
    row = row_of(session)
    assert (row.url, row.state, row.size, row.epoch) == (url, "stored", len(DATA), session.lease.epoch)
    assert shown(session) == [StoreProgress("local", "done", len(DATA), len(DATA))]
    assert read_image(session.catalog, session.lease.image_id).locations == ()


def test_the_row_stands_before_the_store_sees_a_byte(session: ImportSession) -> None:
    staged = staged_file(session, DATA)
    session.staging.remove(staged.name)  # the driver refuses, after the row was written
    with pytest.raises(StagingBroken):
        place.fn("local", staged)
    assert (row_of(session).state, row_of(session).url) == (
        "uploading",
        f"file://{session.settings.home}/images/{session.lease.image_id}",
    )
    assert stored(session.settings) == {}


def test_a_foreign_object_stays_and_the_row_goes(session: ImportSession) -> None:
    leave(session, session.lease.image_id, b"somebody else's")
    with pytest.raises(AlreadyStored) as refused:
        place.fn("local", staged_file(session, DATA))
    unplace(session, "local")
    assert stored(session.settings) == {session.lease.image_id: b"somebody else's"}
    assert location(session.catalog, session.lease.image_id) is None
    assert shown(session) == [StoreProgress("local", "failed", 0, len(DATA), str(refused.value))]


@pytest.mark.parametrize("left", ["half a copy", "a whole copy of other bytes", "nothing"])
def test_what_an_earlier_attempt_left_is_replaced(settings: Settings, catalog: Catalog, left: str) -> None:
    begun = begin(catalog)
    with session_of(settings, catalog, begun) as session:
        place.fn("local", staged_file(session, b"other bytes"))
        copy = settings.all_stores["local"].dir / begun.image.id
        if left != "a whole copy of other bytes":
            copy.unlink()
        if left == "half a copy":
            leave(session, f"{begun.image.id}.{begun.lease.epoch}.part", b"half")
    begun = begin_again(catalog, begun.lease)
    with session_of(settings, catalog, begun) as session:
        place.fn("local", staged_file(session, DATA, "again"))
        assert stored(settings) == {begun.image.id: DATA}
        assert (row_of(session).state, row_of(session).epoch) == ("stored", begun.lease.epoch)


def test_the_temporary_of_a_newer_attempt_is_left_alone(session: ImportSession) -> None:
    newer = leave(session, f"{session.lease.image_id}.{session.lease.epoch + 1}.part", b"newer")
    place.fn("local", staged_file(session, DATA))
    assert newer.read_bytes() == b"newer"


def test_a_store_that_was_away_takes_the_data_when_it_is_back(tmp_path: Path, catalog: Catalog) -> None:
    mount, elsewhere = tmp_path / "mount", tmp_path / "mounted elsewhere"
    settings = easy_settings(tmp_path, **file_stores(local=mount / "images"))
    with session_of(settings, catalog, begin(catalog)) as session:
        staged = staged_file(session, DATA)
        mount.rename(elsewhere)
        with pytest.raises(StoreUnavailable) as away:
            place.fn("local", staged)
        assert not mount.exists()
        assert shown(session) == [StoreProgress("local", "failed", 0, len(DATA), str(away.value))]
        assert location(catalog, session.lease.image_id) is None
        elsewhere.rename(mount)
        place.fn("local", staged)
        assert stored(settings) == {session.lease.image_id: DATA}
        assert shown(session) == [StoreProgress("local", "done", len(DATA), len(DATA))]


def test_a_store_that_is_not_configured_any_more_is_told(session: ImportSession) -> None:
    with pytest.raises(StoreMisconfigured, match=r"gone.*no such store in the settings"):
        place.fn("gone", staged_file(session, DATA))


def test_a_worker_that_lost_the_lease_writes_no_store(session: ImportSession) -> None:
    staged = staged_file(session, DATA)
    steal(session.catalog, session.lease)
    with pytest.raises(LockLost):
        place.fn("local", staged)
    assert stored(session.settings) == {}
    assert location(session.catalog, session.lease.image_id) is None


def test_a_stop_leaves_nothing_in_the_store(session: ImportSession) -> None:
    staged = staged_file(session, DATA)
    session.stop.stop(ImportCancelled("by hand"))
    with pytest.raises(ImportCancelled):
        place.fn("local", staged)
    assert stored(session.settings) == {}


# --- unplace -----------------------------------------------------------------------------------


def test_unplace_takes_the_copy_and_its_row(session: ImportSession) -> None:
    place.fn("local", staged_file(session, DATA))
    unplace(session, "local")
    assert stored(session.settings) == {}
    assert location(session.catalog, session.lease.image_id) is None


def test_unplace_touches_nothing_that_no_row_names(session: ImportSession) -> None:
    leave(session, session.lease.image_id, b"somebody else's")
    unplace(session, "local")
    assert stored(session.settings) == {session.lease.image_id: b"somebody else's"}


def test_unplace_leaves_the_row_when_the_store_does_not_answer(session: ImportSession) -> None:
    place.fn("local", staged_file(session, DATA))
    directory = session.settings.all_stores["local"].dir
    directory.rename(directory.with_name("elsewhere"))
    directory.touch()
    with pytest.raises(StoreUnavailable):
        unplace(session, "local")
    assert row_of(session).state == "deleting"


def test_a_worker_that_lost_the_lease_takes_nothing_back(session: ImportSession) -> None:
    place.fn("local", staged_file(session, DATA))
    steal(session.catalog, session.lease)
    with pytest.raises(LockLost):
        unplace(session, "local")
    assert stored(session.settings) == {session.lease.image_id: DATA}


# --- finish ------------------------------------------------------------------------------------


DIGESTS = Digests("ab" * 16, "sha512", "cd" * 64)


def copies(**failed: str) -> Copies:
    return Copies(DIGESTS, (), failed)


@pytest.fixture
def begun(catalog: Catalog) -> Begun:
    return begin(catalog, SOURCE, "local", "spare", strict=False)


@pytest.fixture
def two_stores(tmp_path: Path, catalog: Catalog, begun: Begun) -> Iterator[ImportSession]:
    settings = easy_settings(tmp_path, **file_stores(local=tmp_path / "images", spare=tmp_path / "spare"))
    with session_of(settings, catalog, begun) as session:
        yield session


def ended(catalog: Catalog, begun: Begun) -> tuple[TaskStatus, str, str]:
    with catalog.read() as connection:
        task, lease = get_task(connection, begun.task.id), lease_of(connection, begun.image.id)
    return task.status, task.message, lease.state


def test_finish_makes_the_image_active_with_all_that_is_known(two_stores: ImportSession, begun: Begun) -> None:
    staged = staged_file(two_stores, DATA)
    urls = [place.fn(store, staged).value.url for store in ("local", "spare")]
    final = final_of(two_stores, staged, disk_format="qcow2", virtual_size=123)
    assert finish.fn(begun, final, copies()).value == "imported to local, spare"
    image = read_image(two_stores.catalog, two_stores.lease.image_id)
    assert image.status is ImageStatus.ACTIVE
    assert (image.size, image.virtual_size, image.disk_format) == (len(DATA), 123, "qcow2")
    assert (image.checksum, image.os_hash_algo, image.os_hash_value) == ("ab" * 16, "sha512", "cd" * 64)
    assert sorted(each.url for each in image.locations) == sorted(urls)
    assert ended(two_stores.catalog, begun) == (TaskStatus.SUCCESS, "imported to local, spare", "free")


def test_finish_names_the_stores_that_were_allowed_to_fail(two_stores: ImportSession, begun: Begun) -> None:
    staged = staged_file(two_stores, DATA)
    place.fn("local", staged)
    final = final_of(two_stores, staged)
    assert finish.fn(begun, final, copies(spare="spare is full")).value == "imported to local; failed: spare is full"
    image = read_image(two_stores.catalog, two_stores.lease.image_id)
    assert [each.store for each in image.locations] == ["local"]
    assert image.failed_import == ("spare",)


def test_a_worker_that_lost_the_lease_finishes_nothing(two_stores: ImportSession, begun: Begun) -> None:
    staged = staged_file(two_stores, DATA)
    steal(two_stores.catalog, two_stores.lease)
    with pytest.raises(LockLost):
        finish.fn(begun, final_of(two_stores, staged), copies())
    assert read_image(two_stores.catalog, two_stores.lease.image_id).status is ImageStatus.IMPORTING


def test_a_stopped_import_is_not_finished(two_stores: ImportSession, begun: Begun) -> None:
    two_stores.stop.stop(ImportCancelled("by hand"))
    with pytest.raises(ImportCancelled):
        finish.fn(begun, final_of(two_stores, SealedFile("any", 1)), copies())
    assert read_image(two_stores.catalog, two_stores.lease.image_id).status is ImageStatus.IMPORTING
