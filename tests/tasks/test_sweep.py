"""Housekeeping removes only what rows mark for removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from config.settings import Settings
from tasks.place import place, unplace
from tasks.session import ImportSession
from tasks.staged_files import new_name, open_file
from tasks.stores import using_store
from tasks.sweep import Swept, sweep_staging, sweep_stores
from tests.fakes.backups import contents_of, restore
from tests.fakes.databases import DATABASES
from tests.fakes.images import NOW, asked, read_image
from tests.fakes.running_import import (
    begin,
    begin_again,
    easy_settings,
    flow_run_of,
    location,
    session_of,
    staged_file,
    staging_names,
)
from tests.fakes.together import at_once
from transship.catalog.endings import end_unheld, fail_import
from transship.catalog.engine import Catalog
from transship.catalog.imports import begin_import
from transship.catalog.inventories import inventories
from transship.catalog.journal import LocationRow, StagedRow, adopt_staged, mark_deleting, staged_names
from transship.catalog.leases import expire_lease, free_lease
from transship.catalog.removal import (
    Claim,
    claim_location,
    forget_hidden,
    release_location,
    scrap_of_host,
    scrap_staged,
)
from transship.catalog.schema import IMAGES, INVENTORIES, LOCATIONS, STAGED
from transship.domain.clock import utc_now
from transship.domain.errors import (
    AlreadyStored,
    ConfigurationRefused,
    CopyBeingRemoved,
    LockLost,
    StagingUnavailable,
    StoreUnavailable,
)
from transship.domain.image import ImageStatus
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.placing.removal import remove_leftover


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that the sweeps, which read them by themselves, find too."""
    for name, value in {**DATABASES.environment(tmp_path), "TRANSSHIP_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return easy_settings(tmp_path)


@pytest.fixture
def session(settings: Settings, catalog: Catalog) -> Iterator[ImportSession]:
    with session_of(settings, catalog, begin(catalog)) as opened:
        yield opened


def fail(session: ImportSession, *, rerunnable: bool = False) -> None:
    fail_import(
        session.catalog,
        session.lease,
        "it failed",
        {},
        rerunnable=rerunnable,
        now=utc_now(),
        time_to_live_h=1,
        rerun_ttl_s=3600.0,
    )


def make_part(session: ImportSession, role: str = "source") -> str:
    name = new_name(session, role)
    open_file(session, name, role)
    session.staging.part(name).write_bytes(b"half")
    return name


# --- staging -----------------------------------------------------------------------------------


def test_scrap_goes_with_its_row(session: ImportSession) -> None:
    names = {make_part(session, "convert"), staged_file(session, b"whole").name}
    fail(session)
    swept = sweep_staging.fn("here")
    assert set(swept.removed) == names
    assert (swept.kept, swept.unknown) == ((), ())
    assert staging_names(session.settings) == set()
    with session.catalog.read() as connection:
        assert staged_names(connection, "here") == frozenset()


def test_a_running_import_keeps_its_files(session: ImportSession) -> None:
    make_part(session)
    assert sweep_staging.fn("here") == Swept((), ())
    assert len(staging_names(session.settings)) == 1


def test_an_import_whose_worker_is_lost_keeps_its_files_for_the_next(session: ImportSession) -> None:
    make_part(session)
    expire_lease(session.catalog, session.lease)
    assert sweep_staging.fn("here").removed == ()


def test_what_is_kept_for_a_rerun_stays_until_its_time(session: ImportSession) -> None:
    name = staged_file(session, b"whole").name
    fail(session, rerunnable=True)
    assert sweep_staging.fn("here").removed == ()
    with session.catalog.write() as connection:
        connection.execute(update(STAGED).values(keep_until=NOW))
    assert sweep_staging.fn("here").removed == (name,)


def test_a_file_that_is_being_written_stays(session: ImportSession) -> None:
    name = make_part(session)
    fail(session)
    with session.staging.writing(name):
        assert sweep_staging.fn("here").kept == (f"{name}: still being written",)
        assert staging_names(session.settings) == {f"{name}.part"}
    assert sweep_staging.fn("here").removed == (name,)


def test_what_no_row_names_is_reported_and_stays(session: ImportSession) -> None:
    session.staging.part("stray").write_bytes(b"?")
    (session.staging.directory / "notes.txt").write_bytes(b"?")
    assert sweep_staging.fn("here").unknown == ("staging:here notes.txt", "staging:here stray")
    assert staging_names(session.settings) == {"stray.part", "notes.txt"}


def test_what_cannot_be_removed_keeps_its_row(session: ImportSession) -> None:
    name = make_part(session)
    session.staging.part(name).unlink()
    session.staging.part(name).mkdir()
    fail(session)
    swept = sweep_staging.fn("here")
    assert (swept.removed, swept.unknown) == ((), ())
    assert swept.kept[0].startswith(f"{name}: staging cannot be used")


def test_files_of_another_host_are_not_looked_for(session: ImportSession) -> None:
    make_part(session)
    fail(session)
    assert sweep_staging.fn("there").removed == ()


def test_the_staging_of_another_catalogue_is_not_swept(session: ImportSession) -> None:
    make_part(session)
    fail(session)
    (session.staging.directory / MARK).write_text("another")
    with pytest.raises(ConfigurationRefused, match="serves another catalogue"):
        sweep_staging.fn("here")
    assert len(staging_names(session.settings)) == 1


# --- stores ------------------------------------------------------------------------------------


def stored(session: ImportSession) -> list[str]:
    return sorted(stored_bytes(session.settings))


def stored_bytes(settings: Settings) -> dict[str, bytes]:
    found = settings.all_stores["local"].dir.iterdir()
    return {path.name: path.read_bytes() for path in found if path.name != MARK}


@contextmanager
def unmounted(directory: Path) -> Iterator[None]:
    """Leave an empty mount point in the place of a directory while the block runs; nothing may be written there."""
    elsewhere = directory.rename(directory.with_name(f"{directory.name} is elsewhere"))
    directory.mkdir()
    try:
        yield
        assert list(directory.iterdir()) == []
    finally:
        shutil.rmtree(directory)
        elsewhere.rename(directory)


def age(catalog: Catalog) -> None:
    """Make every location very old."""
    with catalog.write() as connection:
        connection.execute(update(LOCATIONS).values(updated_at=NOW))


def test_a_copy_that_is_to_go_goes_after_its_time(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, b"data")).value.url
    fail(session)
    assert sweep_stores.fn() == Swept((), ())
    age(session.catalog)
    assert sweep_stores.fn() == Swept((url,), ())
    assert stored(session) == []


def test_its_row_goes_when_a_later_look_found_nothing(session: ImportSession) -> None:
    """An unreachable writer may publish after the first check."""
    url = place.fn("local", staged_file(session, b"data")).value.url
    fail(session)
    age(session.catalog)
    sweep_stores.fn()
    directory = session.settings.all_stores["local"].dir
    (directory / session.lease.image_id).write_bytes(b"late")
    assert sweep_stores.fn().removed == ()
    age(session.catalog)
    assert sweep_stores.fn().removed == (url,)
    assert location(session.catalog, session.lease.image_id) is not None
    age(session.catalog)
    assert sweep_stores.fn().removed == ()
    assert location(session.catalog, session.lease.image_id) is None


def test_a_copy_that_a_worker_still_takes_back_is_left_to_it(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    mark_deleting(session.catalog, session.lease, "local", utc_now())
    age(session.catalog)
    assert sweep_stores.fn() == Swept((), ())
    expire_lease(session.catalog, session.lease)
    assert len(sweep_stores.fn().removed) == 1


def test_a_copy_that_is_not_to_go_stays(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    age(session.catalog)
    expire_lease(session.catalog, session.lease)
    assert sweep_stores.fn() == Swept((), ())
    assert stored(session) == [session.lease.image_id]


def test_half_a_copy_of_a_dead_worker_goes_with_the_row(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    directory = session.settings.all_stores["local"].dir
    (directory / session.lease.image_id).rename(directory / f"{session.lease.image_id}.{session.lease.epoch}.part")
    expire_lease(session.catalog, session.lease)
    assert end_unheld(session.catalog, session.lease.task_id, "given up", now=NOW, time_to_live_h=1)
    age(session.catalog)
    assert len(sweep_stores.fn().removed) == 1
    assert stored(session) == []


def test_a_store_that_does_not_answer_keeps_the_row_for_later(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, b"data")).value.url
    fail(session)
    age(session.catalog)
    directory = session.settings.all_stores["local"].dir
    directory.rename(directory.with_name("elsewhere"))
    directory.touch()
    swept = sweep_stores.fn()
    assert swept.removed == ()
    assert swept.kept[0].startswith(f"{url}: store local is unavailable")
    directory.unlink()
    directory.with_name("elsewhere").rename(directory)
    age(session.catalog)
    assert sweep_stores.fn().removed == (url,)


def test_a_store_that_is_not_mounted_keeps_row_and_copy_for_later(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, b"data")).value.url
    fail(session)
    for _ in range(3):
        age(session.catalog)
        with unmounted(session.settings.all_stores["local"].dir):
            swept = sweep_stores.fn()
        assert (swept.removed, swept.unknown) == ((), ())
        assert swept.kept[0].startswith(f"{url}: store local is unavailable: its directory is not mounted")
    age(session.catalog)
    assert sweep_stores.fn().removed == (url,)
    assert stored(session) == []


def test_staging_that_is_not_mounted_is_not_swept(session: ImportSession) -> None:
    name = make_part(session)
    fail(session)
    with unmounted(session.settings.staging_dir), pytest.raises(StagingUnavailable, match="here is not mounted"):
        sweep_staging.fn("here")
    assert sweep_staging.fn("here").removed == (name,)


def test_the_mark_of_a_store_is_neither_listed_nor_removed(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    assert sweep_stores.fn() == Swept((), ())
    assert (session.settings.all_stores["local"].dir / MARK).exists()


def test_a_copy_that_a_new_import_made_in_the_meantime_stays(session: ImportSession) -> None:
    """The sweep read its list, then slept; the image was imported again before it went on."""
    staged = staged_file(session, b"data")
    place.fn("local", staged)
    mark_deleting(session.catalog, session.lease, "local", utc_now())
    listed = row_of(session)
    place.fn("local", staged)
    using = partial(using_store, settings=session.settings, catalog=session.catalog)
    assert not remove_leftover(session.catalog, listed, using, ttl_s=session.settings.lease.ttl_s)
    assert stored(session) == [session.lease.image_id]


def row_of(session: ImportSession) -> LocationRow:
    row = location(session.catalog, session.lease.image_id)
    assert row is not None
    return row


def given_up(session: ImportSession) -> LocationRow:
    """Leave a copy that housekeeping may claim."""
    place.fn("local", staged_file(session, b"data"))
    fail(session)
    age(session.catalog)
    return row_of(session)


def claim(catalog: Catalog, row: LocationRow, owner: str, ttl_s: float = 60.0) -> Claim | None:
    return claim_location(catalog, row, owner, older_than_s=60.0, ttl_s=ttl_s)


def test_one_housekeeper_removes_a_copy(session: ImportSession) -> None:
    row = given_up(session)
    assert claim(session.catalog, row, "one") is not None
    assert claim(session.catalog, row, "two") is None
    assert sweep_stores.fn().removed == ()
    assert stored(session) == [session.lease.image_id]


def test_of_many_housekeepers_at_once_one_removes_a_copy(session: ImportSession) -> None:
    row = given_up(session)
    claims = at_once(*[lambda owner=str(n): claim(session.catalog, row, owner) for n in range(6)])
    assert len([one for one in claims if one is not None]) == 1


def test_a_housekeeper_that_died_is_followed_by_another_one(session: ImportSession) -> None:
    row = given_up(session)
    assert claim(session.catalog, row, "one that died", ttl_s=-1.0) is not None
    assert sweep_stores.fn().removed == (row.url,)


def test_a_claim_whose_time_is_over_removes_nothing(session: ImportSession) -> None:
    late = claim(session.catalog, given_up(session), "slow", ttl_s=-1.0)
    assert late is not None
    with pytest.raises(StoreUnavailable, match="took too long"):
        late.check()


def test_the_late_end_of_a_claim_leaves_a_row_to_who_has_it_now(session: ImportSession) -> None:
    row = given_up(session)
    late = claim(session.catalog, row, "slow", ttl_s=-1.0)
    assert late is not None
    assert claim(session.catalog, row, "other") is not None
    release_location(session.catalog, late, gone=True)
    assert location(session.catalog, session.lease.image_id) == row


def test_a_copy_of_a_running_import_cannot_be_claimed(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    mark_deleting(session.catalog, session.lease, "local", utc_now())
    age(session.catalog)
    assert claim(session.catalog, row_of(session), "one") is None


def test_an_import_waits_until_housekeeping_has_left_the_place_of_its_copy(
    settings: Settings, session: ImportSession
) -> None:
    row = given_up(session)
    claimed = claim(session.catalog, row, "housekeeper")
    assert claimed is not None
    again = asked(session.catalog, read_image(session.catalog, session.lease.image_id))
    begun = begin_import(session.catalog, again.id, str(uuid4()), "next", ttl_s=3600.0, now=NOW)
    with session_of(settings, session.catalog, begun) as next_session:
        staged = staged_file(next_session, b"new data")
        with pytest.raises(CopyBeingRemoved):
            unplace(next_session, "local")
        said: list[str] = []

        def removed() -> None:
            said.append(next_session.board.line)
            finish_removal(next_session, claimed)

        next_session.board.enter("place", staged.size)
        next_session.stop = waiting = RemovedMeanwhile(removed)
        place.fn("local", staged)
        assert waiting.waits == 1
        assert "local waits for the removal of an earlier copy, which housekeeping has begun, since " in said[0]
        assert "waits" not in next_session.board.line
    assert (settings.all_stores["local"].dir / session.lease.image_id).read_bytes() == b"new data"
    assert row_of(session).state == "stored"


class RemovedMeanwhile(StopToken):
    """A token whose waits only last as long as an action."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act
        self.waits = 0

    def wait(self, timeout_s: float) -> None:
        self.waits += 1
        self._act()


def finish_removal(session: ImportSession, claimed: Claim) -> None:
    """Act as housekeeping after it has claimed a copy."""
    (session.settings.all_stores["local"].dir / session.lease.image_id).unlink()
    release_location(session.catalog, claimed, gone=True)


# --- staged files: scrap or taken up, whichever came first ---------------------------------------


def kept_file(session: ImportSession) -> StagedRow:
    """Leave a staged file behind whose time is over, as housekeeping reads it."""
    staged_file(session, b"whole")
    fail(session, rerunnable=True)
    with session.catalog.write() as connection:
        connection.execute(update(STAGED).values(keep_until=NOW))
    with session.catalog.read() as connection:
        return scrap_of_host(connection, "here")[0]


def test_a_file_that_a_rerun_took_up_in_the_meantime_stays(settings: Settings, session: ImportSession) -> None:
    row = kept_file(session)
    run_id = flow_run_of(session.catalog, session.lease)
    rerun = begin_import(session.catalog, session.lease.task_id, run_id, "again", ttl_s=3600.0, now=NOW)
    assert adopt_staged(session.catalog, rerun.lease, row.name, "here")
    assert not scrap_staged(session.catalog, row)
    assert staging_names(settings) == {row.name}


def test_a_file_that_became_scrap_is_not_taken_up(session: ImportSession) -> None:
    row = kept_file(session)
    assert scrap_staged(session.catalog, row)
    run_id = flow_run_of(session.catalog, session.lease)
    rerun = begin_import(session.catalog, session.lease.task_id, run_id, "again", ttl_s=3600.0, now=NOW)
    assert not adopt_staged(session.catalog, rerun.lease, row.name, "here")


def test_a_file_that_was_staged_for_an_import_that_nobody_asked_for_yet_stays(session: ImportSession) -> None:
    staged_file(session, b"uploaded")
    with session.catalog.write() as connection:
        connection.execute(update(IMAGES).values(status=ImageStatus.UPLOADING))
        free_lease(connection, session.lease.image_id)
    assert sweep_staging.fn("here").removed == ()


# --- what is not ours --------------------------------------------------------------------------

FOREIGN = ("3f2a1c9e-0000-4000-8000-000000000001", "3f2a1c9e-0000-4000-8000-000000000002")
"""Images of a Glance that shares the pool and the staging directory."""


def test_the_files_of_a_glance_are_listed_and_never_touched(session: ImportSession) -> None:
    row = given_up(session)
    pool, staging = session.settings.all_stores["local"].dir, session.staging.directory
    in_pool = {FOREIGN[0], f"{FOREIGN[1]}.7.part", "notes.txt"}
    # What its plugins leave beside a staged image, and what another Transship writes.
    in_staging = {FOREIGN[0], f"{FOREIGN[0]}.converted", f"{FOREIGN[1]}.uncompressed", f"{FOREIGN[1]}.3.source"}
    glances = {pool / name for name in in_pool} | {staging / name for name in in_staging}
    half = staging / f"{FOREIGN[1]}.3.convert.part"
    for path in glances | {half}:
        path.write_bytes(b"not ours")
    swept = (sweep_staging.fn("here"), sweep_stores.fn())
    assert row.url in swept[1].removed
    assert set(swept[0].unknown) == {f"staging:here {name}" for name in in_staging | {half.stem}}
    assert set(swept[1].unknown) == {f"store:local {name}" for name in in_pool}
    assert all(path.read_bytes() == b"not ours" for path in glances | {half})
    with session.catalog.read() as connection:
        assert {one.place: one.strays for one in inventories(connection)} == {"staging:here": 5, "store:local": 3}


def test_a_store_is_looked_through_only_when_it_is_time_to(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    pool = session.settings.all_stores["local"].dir
    (pool / "notes.txt").touch()
    assert sweep_stores.fn().unknown == ("store:local notes.txt",)
    (pool / "more.txt").touch()
    assert sweep_stores.fn().unknown == ()
    with session.catalog.write() as connection:
        connection.execute(update(INVENTORIES).values(taken_at=NOW))
    assert sweep_stores.fn().unknown == ("store:local more.txt", "store:local notes.txt")


def test_a_store_that_does_not_answer_is_looked_through_later(session: ImportSession) -> None:
    pool = session.settings.all_stores["local"].dir
    (pool / "notes.txt").touch()
    pool.rename(pool.with_name("elsewhere"))
    assert sweep_stores.fn().unknown == ()
    pool.with_name("elsewhere").rename(pool)
    assert sweep_stores.fn().unknown == ("store:local notes.txt",)


def test_a_catalogue_rolled_back_by_a_day_removes_nothing_that_was_made_since(
    settings: Settings, catalog: Catalog
) -> None:
    with session_of(settings, catalog, begin(catalog)) as session:
        given_up(session)
        sweep_staging.fn("here")
        yesterday = contents_of(catalog)
        # The day that the backup misses: the copy goes, the image is imported again, another one is too.
        sweep_staging.fn("here")
        sweep_stores.fn()
        age(catalog)
        sweep_stores.fn()
        again = asked(catalog, read_image(catalog, session.lease.image_id))
        begun = begin_import(catalog, again.id, str(uuid4()), "next", ttl_s=3600.0, now=NOW)
        for one in (begun, begin(catalog)):
            with session_of(settings, catalog, one) as later:
                place.fn("local", staged_file(later, b"of today"))
        names = stored_bytes(settings)
        assert len(names) == 2
        restore(catalog, yesterday)
        age(catalog)
        staging, stores = sweep_staging.fn("here"), sweep_stores.fn()
    assert stored_bytes(settings) == names
    assert (staging.removed, stores.removed) == ((), ())
    assert set(stores.unknown) == {f"store:local {name}" for name in names}
    assert len(staging.unknown) == 2


@pytest.mark.parametrize("state", ["stored", "uploading"])
def test_an_import_that_a_restored_catalogue_resumes_leaves_alone_what_was_made_since(
    settings: Settings, catalog: Catalog, state: str
) -> None:
    before = begin(catalog)
    with session_of(settings, catalog, before) as session:
        url = place.fn("local", staged_file(session, b"of yesterday")).value.url
        with catalog.write() as connection:
            connection.execute(update(LOCATIONS).values(state=state))
        yesterday = contents_of(catalog)
        # The day that the backup misses: the import fails, its copy goes, the image is imported again.
        unplace(session, "local")
        fail(session)
        again = asked(catalog, read_image(catalog, session.lease.image_id))
        begun = begin_import(catalog, again.id, str(uuid4()), "next", ttl_s=3600.0, now=NOW)
        with session_of(settings, catalog, begun) as later:
            place.fn("local", staged_file(later, b"of today"))
    restore(catalog, yesterday)
    with session_of(settings, catalog, begin_again(catalog, before.lease)) as resumed:
        with pytest.raises(AlreadyStored):
            place.fn("local", staged_file(resumed, b"of the resumed import"))
        unplace(resumed, "local")
        fail(resumed)
    age(catalog)
    sweep_staging.fn("here")
    swept = sweep_stores.fn()
    assert (swept.removed, swept.unknown) == ((), (f"store:local {before.image.id}",))
    assert Path(url.removeprefix("file://")).read_bytes() == b"of today"


def test_a_restore_is_noticed_however_often_another_host_swept_since(
    settings: Settings, session: ImportSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given_up(session)
    yesterday = contents_of(session.catalog)
    sweep_staging.fn("here")
    restore(session.catalog, yesterday)
    with monkeypatch.context() as there:
        there.setenv("TRANSSHIP_STAGING__DIR", str(tmp_path / "staging of another host"))
        for _ in range(5):
            sweep_staging.fn("there")
    assert location(session.catalog, session.lease.image_id) is not None
    sweep_staging.fn("here")
    assert location(session.catalog, session.lease.image_id) is None


def test_an_import_that_runs_when_a_restore_is_noticed_keeps_what_it_made_itself(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    assert forget_hidden(session.catalog, None) == []
    mark_deleting(session.catalog, session.lease, "local", utc_now())


def test_an_import_that_took_up_a_forgotten_copy_loses_its_lease(
    settings: Settings, catalog: Catalog, session: ImportSession
) -> None:
    url = place.fn("local", staged_file(session, b"data")).value.url
    with session_of(settings, catalog, begin_again(catalog, session.lease)) as resumed:
        assert forget_hidden(catalog, None) == [url]
        with pytest.raises(LockLost):
            mark_deleting(catalog, resumed.lease, "local", utc_now())
