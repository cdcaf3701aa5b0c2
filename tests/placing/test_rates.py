"""Rate limits of stores: one token bucket for all processes of a host."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from tasks.place import place
from tests.fakes.running_import import begin, easy_settings, file_stores, session_of, staged_file
from transship.catalog.engine import Catalog
from transship.domain.errors import ImportCancelled
from transship.domain.staged import unpaced
from transship.placing.rates import MIB, SharedBucket, store_pace
from transship.stores.copying import copy_extents

BOOT = uuid4()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bucket(home: Path, clock: Clock, *, mib_per_s: float = 10, boot=BOOT) -> SharedBucket:
    return SharedBucket(home / "run" / "rate-fast", mib_per_s * MIB, clock, boot)


def test_bytes_of_several_processes_wait_for_each_other(tmp_path: Path, clock: Clock) -> None:
    one, other = bucket(tmp_path, clock), bucket(tmp_path, clock)
    assert [each.book(10 * MIB) for each in (one, other, one, other)] == [0, 1, 2, 3]


def test_time_that_passed_is_not_saved_up(tmp_path: Path, clock: Clock) -> None:
    one = bucket(tmp_path, clock)
    one.book(10 * MIB)
    clock.now += 100
    assert [one.book(10 * MIB), one.book(10 * MIB)] == [0, 1]


def test_what_was_booked_before_the_hosts_restart_does_not_count(tmp_path: Path, clock: Clock) -> None:
    bucket(tmp_path, clock).book(10_000 * MIB)
    clock.now = 3.0
    assert bucket(tmp_path, clock, boot=uuid4()).book(MIB) == 0


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100])
def test_a_file_that_says_nothing_is_written_anew(tmp_path: Path, clock: Clock, content: bytes) -> None:
    one = bucket(tmp_path, clock)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "rate-fast").write_bytes(content)
    assert [one.book(10 * MIB), one.book(10 * MIB)] == [0, 1]


def test_holes_are_not_counted(tmp_path: Path) -> None:
    path, copy = tmp_path / "sparse", tmp_path / "copy"
    with path.open("wb") as file:
        file.write(b"a" * MIB)
        file.truncate(200 * MIB)
        file.seek(100 * MIB)
        file.write(b"b" * (10 * MIB))
    asked: list[int] = []
    with path.open("rb") as source, copy.open("wb") as target:
        copy_extents(source.fileno(), target.fileno(), 200 * MIB, unpaced, asked.append)
    assert asked == [MIB, 8 * MIB, 2 * MIB]
    assert copy.stat().st_size == 200 * MIB


def settings_of(home: Path, mib_per_s: float):
    stores = file_stores(fast=home / "images")
    return easy_settings(home, **stores, imports={"store_mib_per_s": {"fast": mib_per_s}})


def test_a_store_without_a_rate_is_written_at_once(catalog: Catalog, tmp_path: Path) -> None:
    settings = easy_settings(tmp_path, **file_stores(fast=tmp_path / "images"))
    with session_of(settings, catalog, begin(catalog, "http://h/x", "fast")) as session:
        assert store_pace(session.settings, "fast", session.stop) is unpaced


def test_who_waits_for_the_rate_stops_when_the_import_does(catalog: Catalog, tmp_path: Path) -> None:
    with session_of(settings_of(tmp_path, 0.001), catalog, begin(catalog, "http://h/x", "fast")) as session:
        pace = store_pace(session.settings, "fast", session.stop)
        pace(MIB)
        session.stop.stop(ImportCancelled("enough"))
        with pytest.raises(ImportCancelled):
            pace(MIB)


def test_a_rate_that_cannot_be_kept_holds_nothing_up(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, 0.001)
    with session_of(settings, catalog, begin(catalog, "http://h/x", "fast")) as session:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        (settings.run_dir / "rate-fast").mkdir()
        with capture_logs() as logs:
            store_pace(session.settings, "fast", session.stop)(MIB)
            store_pace(session.settings, "fast", session.stop)(MIB)
    assert [line["event"] for line in logs] == ["rate limit of the store not applied"] * 2


def test_copies_of_an_import_book_what_they_write(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, 1000)
    with session_of(settings, catalog, begin(catalog, "http://h/x", "fast")) as session:
        staged = staged_file(session, os.urandom(3 * MIB))
        # Another link to the file, of another mode: it has to be copied.
        path = session.staging.sealed(staged.name)
        os.link(path, tmp_path / "other")
        path.chmod(0o400)
        place.fn("fast", staged)
        assert (settings.run_dir / "rate-fast").stat().st_size > 0


def test_a_rate_of_a_store_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="store_mib_per_s names slow"):
        easy_settings(tmp_path, imports={"store_mib_per_s": {"slow": 1}})
