"""Room in staging: which imports get it, wait, or are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tasks import staged_files
from tasks.session import ImportSession
from tasks.staged_files import new_name, open_file, reserve, unstage
from tests.fakes.running_import import begin, easy_settings, session_of
from tests.fakes.system import until
from transship.catalog.engine import Catalog
from transship.catalog.tasks import get_task
from transship.domain.errors import ImportCancelled, StagingBusy, StagingFull
from transship.staging.area import StagingArea

MIB = 1024 * 1024


class SmallDisk(StagingArea):
    """A staging directory on a disk of 100 MiB that nothing else uses."""

    def available_bytes(self) -> int:
        return 100 * MIB - self.free_floor_bytes - sum(self.occupied(name) for name in self.names())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_files, "WAIT_STEP_S", 0.01)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return easy_settings(tmp_path, staging={"free_floor_bytes": 10 * MIB})


@pytest.fixture
def sessions(settings: Settings, catalog: Catalog) -> Iterator[tuple[ImportSession, ImportSession]]:
    with session_of(settings, catalog, begin(catalog)) as one, session_of(settings, catalog, begin(catalog)) as two:
        for session in (one, two):
            area = session.staging
            session.staging = SmallDisk(area.directory, area.host, area.free_floor_bytes)
            open_file(session, new_name(session, "source"), "source")
        yield one, two


def impatiently(session: ImportSession) -> None:
    staging = session.settings.staging.model_copy(update={"wait_s": 0.0})
    session.settings = session.settings.model_copy(update={"staging": staging})


def message(session: ImportSession) -> str:
    with session.catalog.read() as connection:
        return get_task(connection, session.lease.task_id).message


def test_what_does_not_fit_beside_other_imports_waits_with_figures_and_goes_on_when_room_is_freed(
    sessions: tuple[ImportSession, ImportSession],
) -> None:
    one, two = sessions
    reserve(one, new_name(one, "source"), 60 * MIB)
    waiting = threading.Thread(target=reserve, args=(two, new_name(two, "source"), 50 * MIB))
    waiting.start()
    figures = "staging is full: 50.0 MiB needed, 30.0 MiB available, 60.0 MiB taken by other imports"
    until(lambda: figures in message(two), 180.0, "the reason")
    assert message(two).startswith("begin: waits for space in staging since ")
    unstage(one, new_name(one, "source"))
    waiting.join(180.0)
    assert not waiting.is_alive()
    assert two.board.now.waits == ""


def test_what_would_never_fit_is_refused_at_once_with_figures(sessions: tuple[ImportSession, ImportSession]) -> None:
    one, two = sessions
    reserve(one, new_name(one, "source"), 60 * MIB)
    with pytest.raises(StagingFull, match=r"91\.0 MiB needed, 30\.0 MiB available; free some space") as refused:
        reserve(two, new_name(two, "source"), 91 * MIB)
    assert not isinstance(refused.value, StagingBusy)


def test_a_wait_has_an_end(sessions: tuple[ImportSession, ImportSession]) -> None:
    one, two = sessions
    reserve(one, new_name(one, "source"), 60 * MIB)
    impatiently(two)
    with pytest.raises(StagingBusy):
        reserve(two, new_name(two, "source"), 50 * MIB)


def test_a_wait_ends_with_a_cancel(sessions: tuple[ImportSession, ImportSession]) -> None:
    one, two = sessions
    reserve(one, new_name(one, "source"), 60 * MIB)
    two.stop.stop(ImportCancelled("by a person"))
    with pytest.raises(ImportCancelled):
        reserve(two, new_name(two, "source"), 50 * MIB)


def test_bytes_that_lie_there_count_once(sessions: tuple[ImportSession, ImportSession]) -> None:
    one, two = sessions
    reserve(one, new_name(one, "source"), 60 * MIB)
    one.staging.part(new_name(one, "source")).write_bytes(b"x" * (40 * MIB))
    reserve(two, new_name(two, "source"), 30 * MIB)
    impatiently(two)
    with pytest.raises(StagingBusy, match=r"2\.0 MiB needed"):
        reserve(two, new_name(two, "source"), 32 * MIB)


def test_the_floor_stays_free(settings: Settings, sessions: tuple[ImportSession, ImportSession]) -> None:
    one, _ = sessions
    reserve(one, new_name(one, "source"), 90 * MIB)
    with pytest.raises(StagingFull):
        reserve(one, new_name(one, "source"), 90 * MIB + 1)
