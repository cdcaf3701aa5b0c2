"""Housekeeping: what rows hand to it goes, everything else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from config.settings import Settings
from tasks.place import place
from tasks.session import ImportSession, utc_now
from tasks.staged_files import new_name, open_file
from tasks.sweep import Swept, _remove, sweep_staging, sweep_stores
from tests.fakes.databases import DATABASES
from tests.fakes.images import NOW
from tests.fakes.running_import import begin, easy_settings, location, session_of, staged_file, staging_names
from transship.catalog.endings import end_unheld, fail_import
from transship.catalog.engine import Catalog
from transship.catalog.journal import find_location, mark_deleting, staged_names
from transship.catalog.leases import expire_lease
from transship.catalog.schema import LOCATIONS, STAGED
from transship.domain.errors import ConfigurationRefused
from transship.staging.area import MARKER


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
    assert sweep_staging.fn("here").unknown == ("notes.txt", "stray")
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
    (session.staging.directory / MARKER).write_text("another")
    with pytest.raises(ConfigurationRefused, match="serves another catalogue"):
        sweep_staging.fn("here")
    assert len(staging_names(session.settings)) == 1


# --- stores ------------------------------------------------------------------------------------


def stored(session: ImportSession) -> list[str]:
    return sorted(path.name for path in session.settings.all_stores["local"].dir.iterdir())


def age(catalog: Catalog) -> None:
    """Make every location as old as can be."""
    with catalog.write() as connection:
        connection.execute(update(LOCATIONS).values(updated_at=NOW))


def test_a_copy_that_is_to_go_goes_after_its_time(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, b"data"))
    fail(session)
    assert sweep_stores.fn() == Swept((), ())
    age(session.catalog)
    assert sweep_stores.fn() == Swept((url,), ())
    assert stored(session) == []
    assert location(session.catalog, session.image.id) is None


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
    assert stored(session) == [session.image.id]


def test_half_a_copy_of_a_dead_worker_goes_with_the_row(session: ImportSession) -> None:
    place.fn("local", staged_file(session, b"data"))
    directory = session.settings.all_stores["local"].dir
    (directory / session.image.id).rename(directory / f"{session.image.id}.{session.lease.epoch}.part")
    expire_lease(session.catalog, session.lease)
    assert end_unheld(session.catalog, session.lease.task_id, "given up", now=NOW, time_to_live_h=1)
    age(session.catalog)
    assert len(sweep_stores.fn().removed) == 1
    assert stored(session) == []


def test_a_store_that_does_not_answer_keeps_the_row_for_later(session: ImportSession) -> None:
    url = place.fn("local", staged_file(session, b"data"))
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
    assert sweep_stores.fn().removed == (url,)


def test_a_copy_that_a_new_import_made_in_the_meantime_stays(session: ImportSession) -> None:
    """The sweep read its list, then slept; the image was imported again before it went on."""
    staged = staged_file(session, b"data")
    place.fn("local", staged)
    mark_deleting(session.catalog, session.lease, "local", utc_now())
    with session.catalog.read() as connection:
        listed = find_location(connection, session.image.id, "local")
    assert listed is not None
    place.fn("local", staged)
    assert not _remove(session.settings, session.catalog, listed)
    assert stored(session) == [session.image.id]
