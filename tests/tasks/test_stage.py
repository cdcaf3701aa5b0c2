"""Staging a source: download, resume, reuse."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from tasks.session import ImportSession
from tasks.stage import NO_PROVEN_END, stage
from tasks.staged_files import new_name, open_file, reserve
from tests.fakes.images import read_image
from tests.fakes.running_import import (
    begin,
    begin_again,
    easy_settings,
    session_of,
    source_of,
    staged_rows,
    staging_names,
    steal,
)
from tests.fakes.system import until
from tests.fakes.web_server import Talk, WebServer, answer, cut, raw, whole
from transship.catalog.engine import Catalog
from transship.domain.errors import (
    ImportInterrupted,
    LockLost,
    SourceBusy,
    SourceRefused,
    SourceTruncated,
    StagingBroken,
    StagingFull,
)
from transship.domain.import_data import JudgedSource, SealedFile, Skipped
from transship.domain.stop import StopToken
from transship.sources.slots import ConnectionSlots
from transship.sources.watch import Watch
from transship.staging.area import StagingArea

BODY = os.urandom(300_000)


@contextmanager
def importing(settings: Settings, catalog: Catalog, uri: str) -> Iterator[tuple[ImportSession, JudgedSource]]:
    begun = begin(catalog, uri)
    with session_of(settings, catalog, begun) as session:
        yield session, source_of(begun)


def download(source: JudgedSource) -> SealedFile:
    """Stage a source, and return the file."""
    return stage.fn(source).value.file


def content(session: ImportSession, staged: SealedFile) -> bytes:
    return session.staging.sealed(staged.name).read_bytes()


def test_a_source_is_downloaded_and_sealed(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    with importing(settings, catalog, server.serve("/a.img", BODY)) as (session, source):
        staged = download(source)
        assert staged == SealedFile(f"{session.lease.image_id}.{session.lease.epoch}.source", len(BODY))
        assert content(session, staged) == BODY
        [row] = staged_rows(session)
    assert (row.state, row.size, row.reserved_bytes, row.epoch) == ("sealed", len(BODY), 0, session.lease.epoch)
    assert session.board.now.phase == "stage"
    assert session.board.now.done_bytes == len(BODY)


def test_the_row_stands_before_the_file(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    seen: list[tuple[list[str], int]] = []

    def look(talk: Talk) -> None:
        rows = staged_rows(session)
        seen.append(([row.state for row in rows], rows[0].reserved_bytes))
        whole(BODY)(talk)

    with importing(settings, catalog, server.on("/a.img", look)) as (session, source):
        download(source)
    assert seen == [(["part"], 0)]


@pytest.mark.parametrize("other_process", [False, True], ids=["next try", "next attempt"])
def test_a_broken_download_goes_on_where_it_broke(
    settings: Settings, catalog: Catalog, server: WebServer, other_process: bool
) -> None:
    uri = server.on("/a.img", cut(BODY, 100_000), whole(BODY))
    begun = begin(catalog, uri)
    with session_of(settings, catalog, begun) as session:
        with pytest.raises(SourceTruncated):
            download(source_of(begun))
        [row] = staged_rows(session)
        assert (row.state, row.validators is not None) == ("part", True)
        if not other_process:
            staged = download(source_of(begun))
    if other_process:
        begun = begin_again(catalog, begun.lease)
        with session_of(settings, catalog, begun) as session:
            staged = download(source_of(begun))
            assert [row.epoch for row in staged_rows(session)] == [begun.lease.epoch]
    assert server.requests("/a.img")[1].headers["range"] == "bytes=100000-"
    assert content(session, staged) == BODY
    assert staging_names(settings) == {staged.name}


def test_a_source_that_was_replaced_is_fetched_anew(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    newer = os.urandom(200_000)
    uri = server.on("/a.img", cut(BODY, 100_000), whole(newer, etag='"v2"'))
    with importing(settings, catalog, uri) as (session, source):
        with pytest.raises(SourceTruncated):
            download(source)
        staged = download(source)
        assert content(session, staged) == newer
        assert server.requests("/a.img")[1].headers["if-range"] == '"v1"'


def test_a_part_without_a_strong_validator_is_not_kept(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    uri = server.on("/a.img", cut(BODY, 100_000, etag='W/"weak"'), whole(BODY, etag=""))
    begun = begin(catalog, uri)
    with session_of(settings, catalog, begun) as session:
        with pytest.raises(SourceTruncated):
            download(source_of(begun))
        assert [row.validators for row in staged_rows(session)] == [None]
    begun = begin_again(catalog, begun.lease)
    with session_of(settings, catalog, begun) as session:
        staged = download(source_of(begun))
        assert content(session, staged) == BODY
    assert "range" not in server.requests("/a.img")[1].headers
    assert staging_names(settings) == {staged.name} == {f"{begun.image.id}.{begun.lease.epoch}.source"}


def test_the_sealed_file_of_an_earlier_attempt_is_taken(
    settings: Settings, catalog: Catalog, server: WebServer
) -> None:
    begun = begin(catalog, server.serve("/a.img", BODY))
    with session_of(settings, catalog, begun):
        before = download(source_of(begun))
    begun = begin_again(catalog, begun.lease)
    with session_of(settings, catalog, begun) as session:
        outcome = stage.fn(source_of(begun))
        assert isinstance(outcome, Skipped)
        assert outcome.why == "staged by an earlier attempt"
        assert outcome.value.file == before
        assert [row.epoch for row in staged_rows(session)] == [begun.lease.epoch]
    assert len(server.requests("/a.img")) == 1


def test_an_end_that_nobody_marked_is_remarked_also_by_the_attempt_that_finds_the_file(
    settings: Settings, catalog: Catalog, server: WebServer
) -> None:
    begun = begin(catalog, server.on("/a.img", raw(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)))
    with session_of(settings, catalog, begun) as session:
        data = stage.fn(source_of(begun)).value
        assert (content(session, data.file), data.remarks) == (BODY, (NO_PROVEN_END,))
    begun = begin_again(catalog, begun.lease)
    with session_of(settings, catalog, begun):
        assert stage.fn(source_of(begun)).value.remarks == (NO_PROVEN_END,)
    assert len(server.requests("/a.img")) == 1


def test_a_sealed_file_that_is_not_whole_any_more_is_fetched_anew(
    settings: Settings, catalog: Catalog, server: WebServer
) -> None:
    begun = begin(catalog, server.serve("/a.img", BODY))
    with session_of(settings, catalog, begun) as session:
        os.truncate(session.staging.sealed(download(source_of(begun)).name), 5)
        begun = begin_again(catalog, begun.lease)
    with session_of(settings, catalog, begun) as session:
        staged = download(source_of(begun))
        assert content(session, staged) == BODY
    assert staging_names(settings) == {staged.name}


def test_what_an_import_of_another_source_left_is_removed(
    settings: Settings, catalog: Catalog, server: WebServer, session: ImportSession
) -> None:
    stray = session.staging.part(f"{session.lease.image_id}.0.source")
    open_file(session, stray.name.removesuffix(".part"), "source", "key of another source")
    stray.write_bytes(b"old")
    image = read_image(catalog, session.lease.image_id)
    staged = download(JudgedSource(server.serve("/a.img", BODY), "a.img", image))
    assert staging_names(settings) == {staged.name}
    assert [row.name for row in staged_rows(session)] == [staged.name]


def test_a_part_that_another_process_writes_is_left_alone(
    settings: Settings, catalog: Catalog, server: WebServer
) -> None:
    uri = server.on("/a.img", cut(BODY, 100_000), whole(BODY))
    begun = begin(catalog, uri)
    with session_of(settings, catalog, begun) as session, pytest.raises(SourceTruncated):
        download(source_of(begun))
    [left] = staged_rows(session)
    begun = begin_again(catalog, begun.lease)
    with session.staging.writing(left.name), session_of(settings, catalog, begun) as session:
        staged = download(source_of(begun))
        assert staged.name != left.name
        assert content(session, staged) == BODY
        assert session.staging.part(left.name).stat().st_size == 100_000


def test_two_processes_never_write_one_part(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    with importing(settings, catalog, server.serve("/a.img", BODY)) as (session, source):
        name = f"{session.lease.image_id}.{session.lease.epoch}.source"
        with (
            session.staging.writing(name),
            pytest.raises(StagingBroken, match="is being written by another process"),
        ):
            download(source)
    assert server.requests("/a.img") == []


def test_a_full_staging_says_how_much_is_missing(tmp_path: Path, catalog: Catalog, server: WebServer) -> None:
    settings = easy_settings(tmp_path, staging={"free_floor_bytes": 1 << 60})
    with importing(settings, catalog, server.serve("/a.img", BODY)) as (session, source):
        with pytest.raises(StagingFull, match=r"293\.0 KiB needed, 0 bytes available; free some space"):
            download(source)
        [row] = staged_rows(session)
        assert row.reserved_bytes == 0
        assert session.staging.part(row.name).stat().st_size == 0


def test_room_that_other_imports_reserved_is_not_given_twice(
    settings: Settings, catalog: Catalog, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is really free changes with everything that runs on this machine.
    monkeypatch.setattr(StagingArea, "available_bytes", lambda _: 1 << 30)
    with importing(settings, catalog, "http://source.example/other.img") as (other, _):
        name = new_name(other, "source")
        open_file(other, name, "source")
        room = other.staging.available_bytes()
        reserve(other, name, room - (64 << 20))
        huge = {"Content-Length": str(room // 2 + (65 << 20))}
        uri = server.on("/a.img", lambda talk: talk.head(200, huge))
        staging = settings.staging.model_copy(update={"wait_s": 0.0})
        impatient = settings.model_copy(update={"staging": staging})
        with importing(impatient, catalog, uri) as (_, source), pytest.raises(StagingFull):
            download(source)


class PatientToken(StopToken):
    """A token that notes how long it was waited on, and waits no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)
        self.check()


@pytest.mark.parametrize(
    ("headers", "waits"),
    [({"Retry-After": "7"}, [7.0]), ({"Retry-After": "86400"}, [9.0]), ({}, [])],
    ids=["asked", "capped", "not asked"],
)
def test_the_wait_that_a_busy_server_asks_for_is_kept(
    headers: dict[str, str], waits: list[float], tmp_path: Path, catalog: Catalog, server: WebServer
) -> None:
    settings = easy_settings(tmp_path, download={"retry_after_cap_s": 9.0})
    with importing(settings, catalog, server.on("/a.img", answer(503, headers))) as (session, source):
        session.stop = token = PatientToken()
        with pytest.raises(SourceBusy):
            download(source)
    assert token.waits == waits
    assert session.board.line.startswith("stage: waits for its next attempt since ") is bool(waits)


@pytest.mark.parametrize(("run_count", "waits"), [(1, [7.0]), (2, [7.0]), (3, [])], ids=["first", "second", "last"])
def test_nobody_waits_for_an_attempt_that_does_not_come(
    run_count: int,
    waits: list[float],
    tmp_path: Path,
    catalog: Catalog,
    server: WebServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__TASK_RUN__RUN_COUNT", str(run_count))
    uri = server.on("/a.img", answer(503, {"Retry-After": "7"}))
    with importing(easy_settings(tmp_path, download={"retries": 2}), catalog, uri) as (session, source):
        session.stop = token = PatientToken()
        with pytest.raises(SourceBusy):
            download(source)
    assert token.waits == waits


def test_the_wait_ends_when_the_import_does(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    class StoppedInTheMiddle(StopToken):
        """A token that another thread stops while it is waited on."""

        def wait(self, timeout_s: float) -> None:
            threading.Thread(target=self.stop, args=(ImportInterrupted("a stop"),)).start()
            super().wait(timeout_s)

    with importing(settings, catalog, server.on("/a.img", answer(503, {"Retry-After": "100"}))) as (session, source):
        session.stop = StoppedInTheMiddle()
        with pytest.raises(ImportInterrupted):
            download(source)


def test_an_answer_for_good_keeps_nothing_to_resume(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    with importing(settings, catalog, server.on("/a.img", answer(404))) as (session, source):
        with pytest.raises(SourceRefused):
            download(source)
        assert [(row.state, row.validators) for row in staged_rows(session)] == [("part", None)]


def test_a_worker_that_lost_the_lease_stages_nothing(settings: Settings, catalog: Catalog, server: WebServer) -> None:
    with importing(settings, catalog, server.serve("/a.img", BODY)) as (session, source):
        steal(catalog, session.lease)
        with pytest.raises(LockLost):
            download(source)
    assert server.requests("/a.img") == []
    assert staging_names(settings) == set()


def test_a_lease_that_is_lost_in_the_middle_ends_the_download(
    settings: Settings, catalog: Catalog, server: WebServer
) -> None:
    def lose_it(talk: Talk) -> None:
        talk.head(200, {"Content-Length": str(len(BODY))})
        talk.send(BODY[:1000])
        session.stop.stop(LockLost(session.lease.image_id, session.lease.epoch))
        talk.pause()

    with importing(settings, catalog, server.on("/a.img", lose_it)) as (session, source), pytest.raises(LockLost):
        download(source)


def test_a_download_that_waits_for_a_connection_says_so_until_its_bytes_come(
    tmp_path: Path, catalog: Catalog, server: WebServer
) -> None:
    settings = easy_settings(tmp_path, download={"connections_per_host": 1})
    with importing(settings, catalog, server.serve("/a.img", BODY)) as (session, source):
        session.staging.directory.mkdir(parents=True, exist_ok=True)
        others = Watch("http://127.0.0.1/other", settings.download, StopToken())
        release = ConnectionSlots(session.staging.connections_file, 1).take("127.0.0.1", others)
        downloading = threading.Thread(target=contextvars.copy_context().run, args=(stage.fn, source))
        downloading.start()
        until(lambda: session.board.now.waits, 180.0, "the download to wait")
        assert session.board.line.startswith("stage: waits for a connection to 127.0.0.1 since ")
        release()
        downloading.join()
        assert (session.board.now.waits, session.board.now.done_bytes) == ("", len(BODY))
