"""Downloads in ranges over several connections: the results, the cost of a kill, and servers' errors."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import DownloadSettings
from tests.fakes.download_process import download as download_in_four
from tests.fakes.range_server import RangedFile
from tests.fakes.system import until
from tests.fakes.web_server import Behaviour, Talk, WebServer, answer, redirect, silent, whole
from tests.sources.conftest import PLAIN, Download, Names
from transship.domain.errors import (
    ImageTooLarge,
    ImportCancelled,
    SourceBusy,
    SourceChanged,
    SourceTookTooLong,
    SourceTooSlow,
    SourceTruncated,
    StagingFull,
    TransferFailed,
)
from transship.domain.uri_filter import UriRules
from transship.sources.ranges import SUFFIX, Finished, RangeJournal, RangePlan
from transship.sources.watch import Watch
from transship.sources.web import Validators
from transship.staging.area import StagingArea

KIB = 1024
RANGE = 256 * KIB
BODY = os.urandom(16 * RANGE + 17)
NEWER = os.urandom(14 * RANGE + 3)
V1 = Validators('"v1"', "", len(BODY))
FOUR = PLAIN.model_copy(update={"connections": 4, "range_bytes": RANGE})


def limits(**changes: object) -> DownloadSettings:
    return FOUR.model_copy(update=changes)


def journal_of(download: Download) -> Path:
    return download.path.with_name(download.path.name + SUFFIX)


def ranges_asked(server: WebServer, path: str = "/x") -> list[str]:
    return [request.headers.get("range", "") for request in server.requests(path)]


def shared_file(etag: str = '"v1"', company: int = 2) -> RangedFile:
    """An honest file of which no connection can bring all without the others."""
    file = RangedFile(BODY, etag=etag)
    file.company = company
    return file


class InTurn:
    """An honest file, but that the requests with a Range have these behaviours first."""

    def __init__(self, file: RangedFile, *others: Behaviour) -> None:
        self._file = file
        self._others = list(others)
        self._lock = threading.Lock()

    def __call__(self, talk: Talk) -> None:
        with self._lock:
            other = self._others.pop(0) if "range" in talk.request.headers and self._others else None
        (other or self._file)(talk)


def always(file: RangedFile, ranged: Behaviour) -> Behaviour:
    """The whole from an honest file; to each request with a Range the same other behaviour."""
    return lambda talk: (ranged if "range" in talk.request.headers else file)(talk)


# --- what works --------------------------------------------------------------------------------


class Meeting:
    """What connections are in until so many of them are there."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._all_there = threading.Barrier(number, timeout=60)
        self._greeted: set[Talk] = set()

    def __call__(self, talk: Talk, _sent: int) -> None:
        if len(self._greeted) < self._number and talk not in self._greeted:
            self._greeted.add(talk)
            self._all_there.wait()


def test_a_large_source_comes_over_several_connections(server: WebServer, download: Download) -> None:
    file = RangedFile(BODY)
    file.on_piece = Meeting(4)
    done = download.fetch(server.on("/x", file), limits=FOUR)
    assert download.data == BODY
    assert (done.size, done.resumed_from, done.validators, done.end_proven) == (len(BODY), 0, V1, True)
    assert file.most_at_once == 4
    assert download.reserved == [len(BODY)]
    assert download.remembered == [V1]
    assert download.size_when_remembered == [0]
    assert not journal_of(download).exists()
    asked = server.requests("/x")
    assert "range" not in asked[0].headers
    assert all(request.headers["if-range"] == '"v1"' for request in asked[1:])


def test_a_fast_first_connection_goes_on_from_range_to_range(server: WebServer, download: Download) -> None:
    file = RangedFile(BODY)

    def last_range_comes_last(talk: Talk) -> None:
        if "range" in talk.request.headers:
            until(lambda: download.path.stat().st_size >= 16 * RANGE, 60, "all that the first connection brings")
        file(talk)

    assert download.fetch(server.on("/x", last_range_comes_last), limits=limits(connections=2)).size == len(BODY)
    assert download.data == BODY
    assert len(server.requests("/x")) <= 2


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        (RangedFile(BODY, accepts=""), {}),
        (RangedFile(BODY, accepts="none"), {}),
        (RangedFile(BODY, etag='W/"v1"'), {}),
        (RangedFile(BODY, etag=""), {}),
        (RangedFile(BODY), {"connections": 1}),
        (RangedFile(BODY), {"range_bytes": len(BODY)}),
    ],
    ids=["H2 no Accept-Ranges", "refuses ranges", "weak ETag", "no validator", "one connection set", "small"],
)
def test_without_proof_or_need_there_is_one_stream(
    server: WebServer, download: Download, file: RangedFile, changes: dict[str, object]
) -> None:
    download.fetch(server.on("/x", file), limits=limits(**changes))
    assert download.data == BODY
    assert ranges_asked(server) == [""]


def test_a_date_proves_ranges_where_the_etag_is_of_no_use(server: WebServer, download: Download) -> None:
    dated = "Thu, 01 Jan 2015 11:00:00 GMT"
    headers = {"ETag": 'W/"v1"', "Last-Modified": dated, "Accept-Ranges": "bytes"}
    asked = threading.Event()

    def weak(talk: Talk) -> None:
        if "range" in talk.request.headers:
            asked.set()
            whole(BODY, etag="", headers=headers)(talk)
        else:
            talk.head(200, {**headers, "Content-Length": str(len(BODY))})
            asked.wait(60)
            talk.send(BODY)

    done = download.fetch(server.on("/x", weak), limits=limits(connections=2))
    assert download.data == BODY
    assert done.validators == Validators("", dated, len(BODY))
    assert {request.headers.get("if-range", "") for request in server.requests("/x")} == {"", dated}


def test_progress_never_goes_back_and_room_is_there_before_the_first_byte(
    server: WebServer, download: Download
) -> None:
    file = RangedFile(BODY)
    file.bytes_per_s = 3 << 20

    def reserve(size_bytes: int) -> None:
        assert download.data == b""
        download.reserved.append(size_bytes)

    download.fetch(server.on("/x", file), limits=FOUR, reserve=reserve)
    dones = [done for done, _ in download.told]
    assert dones == sorted(dones)
    assert download.told[-1] == (len(BODY), len(BODY))
    assert download.reserved == [len(BODY)]


def test_each_range_passes_the_gate_and_its_redirects(server: WebServer, download: Download) -> None:
    server.on("/real", shared_file())
    download.fetch(server.on("/x", redirect("/real")), limits=FOUR)
    assert download.data == BODY
    assert len(server.requests("/x")) == 1
    assert len(server.requests("/real")) > 1


class Mirrors:
    """A redirector that sends each request to the next of two mirrors, which name the same file differently."""

    def __init__(self, server: WebServer) -> None:
        self.files = [shared_file(f'"m{number}"') for number in range(2)]
        for number, file in enumerate(self.files):
            server.on(f"/mirror{number}", file)
        self._next = itertools.cycle(range(2))
        self.url = server.on("/x", self._send_on)

    def _send_on(self, talk: Talk) -> None:
        redirect(f"/mirror{next(self._next)}")(talk)


def test_ranges_come_from_the_mirror_that_answered_first(server: WebServer, download: Download) -> None:
    mirrors = Mirrors(server)
    download.fetch(mirrors.url, limits=FOUR)
    assert download.data == BODY
    assert len(download.remembered) == 1
    assert len(mirrors.files[0].sent) > 1
    assert mirrors.files[1].sent == []


def test_a_place_that_refuses_further_ranges_is_asked_for_anew(server: WebServer, download: Download) -> None:
    """As behind addresses with a signature that runs out."""
    file, numbers = shared_file(), itertools.count()

    def once(talk: Talk) -> None:
        path = f"/signed{next(numbers)}"
        server.on(path, file, answer(403))
        redirect(path)(talk)

    download.fetch(server.on("/x", once), limits=FOUR)
    assert download.data == BODY
    assert len(download.remembered) == 1
    assert file.most_at_once > 1


def test_the_place_of_the_first_answer_passes_the_gate_for_each_range(server: WebServer, download: Download) -> None:
    """A name that leads elsewhere from the second question on is not dialled; the source itself is asked again."""
    server.on("/real", shared_file())
    names = Names({"mirror.example": [("127.0.0.1",), ("169.254.169.254",)]})
    rules = UriRules(allowed_hosts=("127.0.0.1", "mirror.example"), allowed_ports=())
    url = server.on("/x", redirect(server.url("/real", "mirror.example")), redirect("/real"))
    download.fetch(url, rules=rules, resolver=names, limits=FOUR)
    assert download.data == BODY
    assert len(server.requests("/x")) > 1


# --- servers that cannot do what they say -------------------------------------------------------


def ignores_ranges(talk: Talk) -> None:
    answer(200, {"ETag": '"v1"'}, BODY)(talk)


def sends_another_range(talk: Talk) -> None:
    answer(206, {"ETag": '"v1"', "Content-Range": f"bytes 0-9/{len(BODY)}"}, BODY[:10])(talk)


def whole_as_a_range(framing: str) -> Behaviour:
    """A 206 whose head is right for the range that was asked for, and whose body is the whole file."""

    def behave(talk: Talk) -> None:
        first, last = (int(number) for number in talk.request.headers["range"].removeprefix("bytes=").split("-"))
        head = {"ETag": '"v1"', "Content-Range": f"bytes {first}-{last}/{len(BODY)}"}
        match framing:
            case "chunked":
                talk.head(206, {**head, "Transfer-Encoding": "chunked"})
                talk.send(b"%x\r\n" % len(BODY))
                talk.send(BODY + b"\r\n0\r\n\r\n")
            case "length of the range":
                talk.head(206, {**head, "Content-Length": str(last - first + 1)})
                talk.send(BODY)
            case "length of the whole":
                talk.head(206, {**head, "Content-Length": str(len(BODY))})
                talk.send(BODY)
            case _:
                talk.head(206, head)
                talk.send(BODY)

    return behave


WHOLES = ["chunked", "until the connection closes", "length of the range", "length of the whole"]


@pytest.mark.parametrize("framing", WHOLES)
def test_an_answer_that_is_more_than_its_range_never_reaches_the_file(
    server: WebServer, download: Download, framing: str
) -> None:
    file, asked = RangedFile(BODY), threading.Event()

    def first_waits(talk: Talk, sent: int) -> None:
        if sent > len(BODY) // 2:
            asked.wait(60)

    def ranged(talk: Talk) -> None:
        try:
            whole_as_a_range(framing)(talk)
        finally:
            asked.set()

    file.on_piece = first_waits
    download.fetch(server.on("/x", always(file, ranged)), limits=limits(connections=2))
    assert download.data == BODY
    assert not journal_of(download).exists()


@pytest.mark.parametrize("framing", WHOLES)
def test_a_resume_is_not_answered_by_more_than_its_range(server: WebServer, download: Download, framing: str) -> None:
    leave_with_half(server, download)
    done = download.fetch(server.on("/x", always(RangedFile(BODY), whole_as_a_range(framing))), limits=FOUR, resume=V1)
    assert (download.data, done.resumed_from) == (BODY, 0)
    assert ranges_asked(server)[-1] == ""


UNUSABLE: dict[str, Behaviour] = {
    "H2 ignores Range": ignores_ranges,
    "another range": sends_another_range,
    "206 without Content-Range": answer(206, {"ETag": '"v1"'}, b"x"),
    "multipart": answer(206, {"ETag": '"v1"', "Content-Type": "multipart/byteranges; boundary=x"}, b"--x--"),
    "416": answer(416, {"Content-Range": f"bytes */{len(BODY)}"}),
    "403": answer(403),
    "H14 503": answer(503, {"Retry-After": "1"}),
    "encoded": answer(206, {"Content-Encoding": "gzip"}, b"x"),
    "closed": lambda talk: None,
}


@pytest.mark.parametrize("behaviour", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_h2_a_server_without_usable_ranges_is_read_in_one_stream(
    server: WebServer, download: Download, behaviour: Behaviour
) -> None:
    download.fetch(server.on("/x", always(RangedFile(BODY), behaviour)), limits=FOUR)
    assert download.data == BODY
    assert not journal_of(download).exists()


def test_h2_a_server_that_forgets_ranges_in_the_middle_is_read_anew(server: WebServer, download: Download) -> None:
    leave_with_half(server, download)
    download.fetch(server.on("/x", always(RangedFile(BODY), ignores_ranges)), limits=FOUR, resume=V1)
    assert download.data == BODY
    assert not journal_of(download).exists()


def cut_after(pieces: int) -> Behaviour:
    """An honest file whose connection breaks after some pieces of 128 KiB."""
    file = RangedFile(BODY)

    def behave(talk: Talk) -> None:
        left = [pieces]

        def count(_talk: Talk, _sent: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise ConnectionAbortedError("as the test wants")

        file.on_piece = count
        file(talk)

    return behave


def test_h7_what_one_connection_breaks_off_another_brings(server: WebServer, download: Download) -> None:
    file = InTurn(RangedFile(BODY), cut_after(1), answer(503), cut_after(0))
    download.fetch(server.on("/x", file), limits=FOUR)
    assert download.data == BODY


# --- resume ------------------------------------------------------------------------------------


def leave_with_half(server: WebServer, download: Download) -> int:
    """Let all connections break when half has arrived; returns the bytes that the journal vouches for."""
    file = RangedFile(BODY)

    def break_at_half(_talk: Talk, sent: int) -> None:
        if sent > len(BODY) // 2:
            raise ConnectionAbortedError("as the test wants")

    file.on_piece = break_at_half
    with pytest.raises((SourceTruncated, SourceChanged)):
        download.fetch(server.on("/half", file), limits=FOUR)
    finished = RangeJournal(download.path).read(V1)
    assert finished is not None
    return sum(finished.done.values())


def test_h7_a_broken_download_fetches_only_what_is_missing(server: WebServer, download: Download) -> None:
    have = leave_with_half(server, download)
    assert have > len(BODY) // 4
    file = RangedFile(BODY)
    done = download.fetch(server.on("/x", file), limits=FOUR, resume=V1)
    assert download.data == BODY
    assert done.resumed_from == have
    assert file.sent_bytes == len(BODY) - have
    assert not journal_of(download).exists()
    assert "" not in ranges_asked(server)


def test_an_unbroken_beginning_goes_on_in_ranges(server: WebServer, download: Download) -> None:
    download.path.write_bytes(BODY[: 5 * RANGE + 11])
    done = download.fetch(server.on("/x", shared_file()), limits=FOUR, resume=V1)
    assert download.data == BODY
    assert done.resumed_from == 5 * RANGE + 11
    assert ranges_asked(server)[0] == f"bytes={5 * RANGE + 11}-"
    assert len(server.requests("/x")) > 1


def test_one_connection_can_finish_what_several_began(server: WebServer, download: Download) -> None:
    leave_with_half(server, download)
    download.fetch(server.on("/x", RangedFile(BODY)), limits=limits(connections=1), resume=V1)
    assert download.data == BODY


def test_a_file_that_was_whole_already_is_checked_with_one_byte(server: WebServer, download: Download) -> None:
    download.path.write_bytes(BODY)
    plan = RangePlan(len(BODY), RANGE)
    RangeJournal(download.path).begin(V1, Finished(plan, plan.prefix(len(BODY))))
    file = RangedFile(BODY)
    assert download.fetch(server.on("/x", file), limits=FOUR, resume=V1).size == len(BODY)
    assert (download.data, file.sent_bytes) == (BODY, 1)


DISTRUSTED = {
    "torn head": b'{"etag": "\\"v1',
    "empty": b"",
    "another version": b'{"etag": "\\"v0\\"", "last_modified": "", "total_bytes": 4194321, "range_bytes": 262144}\n',
    "nonsense": b"\0" * 100,
}


@pytest.mark.parametrize("journal", DISTRUSTED.values(), ids=DISTRUSTED.keys())
def test_a_sparse_part_is_never_trusted_without_its_journal(
    server: WebServer, download: Download, journal: bytes
) -> None:
    download.path.write_bytes(b"\0" * len(BODY))
    journal_of(download).write_bytes(journal)
    download.fetch(server.on("/x", RangedFile(BODY)), limits=FOUR, resume=V1)
    assert download.data == BODY
    assert ranges_asked(server)[0] == ""


def test_a_journal_vouches_for_nothing_behind_a_torn_line_or_the_files_end(
    server: WebServer, download: Download
) -> None:
    plan = RangePlan(len(BODY), RANGE)
    journal = RangeJournal(download.path)
    download.path.write_bytes(BODY[:RANGE])
    journal.begin(V1, Finished(plan, {0: RANGE}))
    with journal_of(download).open("ab") as stream:
        stream.write(b"range 3 of 17 ha\0\0\0\nrange 5 of 17 has 262144 bytes\nrange 7 of 17 has 2621")
    found = journal.read(V1)
    assert found is not None
    assert found.done == {0: RANGE}
    journal.begin(V1, Finished(plan, {9: RANGE}))
    download.fetch(server.on("/x", RangedFile(BODY)), limits=FOUR, resume=V1)
    assert download.data == BODY
    assert ranges_asked(server)[0] == ""


# --- a source that changes ---------------------------------------------------------------------


def test_h4_h17_a_source_replaced_meanwhile_is_begun_afresh(server: WebServer, download: Download) -> None:
    file, ranges = shared_file(company=4), itertools.count(1)

    def replaced_at_the_third_range(talk: Talk) -> None:
        if "range" in talk.request.headers and next(ranges) == 3:
            file.replace(NEWER, '"v2"')
        file(talk)

    done = download.fetch(server.on("/x", replaced_at_the_third_range), limits=FOUR)
    assert download.data == NEWER
    assert done.validators == download.remembered[-1] == Validators('"v2"', "", len(NEWER))
    assert download.size_when_remembered == [0, 0]
    dones = [told for told, _ in download.told]
    assert dones[-1] == len(NEWER)


def test_h4_a_source_that_keeps_changing_is_read_in_one_stream(server: WebServer, download: Download) -> None:
    file = shared_file()
    lock = threading.Lock()

    def always_new(talk: Talk) -> None:
        with lock:
            file.etag = f'"v{len(file.sent)}"'
        file(talk)

    download.fetch(server.on("/x", always_new), limits=FOUR)
    assert download.data == BODY
    assert ranges_asked(server)[-1] == ""
    assert ranges_asked(server).count("") == 2
    assert not journal_of(download).exists()


def test_h4_machines_behind_one_address_that_name_the_file_differently_need_one_fresh_start(
    server: WebServer, download: Download
) -> None:
    leave_with_half(server, download)
    file, etags = shared_file(), itertools.cycle(('"a"', '"b"'))

    def in_turn(talk: Talk) -> None:
        file.etag = next(etags)
        file(talk)

    done = download.fetch(server.on("/x", in_turn), limits=FOUR, resume=V1)
    assert (download.data, done.resumed_from) == (BODY, 0)


def test_h17_a_source_replaced_between_attempts_is_begun_afresh(server: WebServer, download: Download) -> None:
    leave_with_half(server, download)
    file = RangedFile(NEWER, etag='"v2"')
    done = download.fetch(server.on("/x", file), limits=FOUR, resume=V1)
    assert (download.data, done.resumed_from) == (NEWER, 0)


# --- limits ------------------------------------------------------------------------------------


def half_then(behaviour: Behaviour) -> Behaviour:
    """All connections stand still after their head."""

    def behave(talk: Talk) -> None:
        file = RangedFile(BODY)
        file.on_piece = lambda one, _sent: behaviour(one)
        file(talk)

    return behave


def test_a_cancel_ends_all_connections_at_once(server: WebServer, download: Download) -> None:
    began = threading.Event()

    def stand_still(talk: Talk) -> None:
        began.set()
        talk.pause()

    stopper = threading.Thread(
        target=lambda: (began.wait(60), download.stop.stop(ImportCancelled("a test")))  # type: ignore[func-returns-value]
    )
    stopper.start()
    with pytest.raises(ImportCancelled):
        download.fetch(server.on("/x", half_then(stand_still)), limits=limits(idle_timeout_s=500))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("range")]
    stopper.join()


LIMITS: dict[str, tuple[dict[str, object], type[TransferFailed]]] = {
    "silence": ({"idle_timeout_s": 1.5}, SourceTooSlow),
    "time in all": ({"total_timeout_s": 0.4}, SourceTookTooLong),
    "speed": ({"min_speed_bytes_per_s": 1 << 20, "min_speed_window_s": 1.5}, SourceTooSlow),
}


@pytest.mark.parametrize(("changes", "error"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_hold_for_the_sum_of_the_connections(
    server: WebServer, download: Download, changes: dict[str, object], error: type[TransferFailed]
) -> None:
    with pytest.raises(error):
        download.fetch(server.on("/x", half_then(Talk.pause)), limits=limits(**changes))


def test_connections_that_are_served_side_by_side_are_judged_side_by_side(
    server: WebServer, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that means for the limits is in test_watch.py."""
    beside: set[object] = set()
    seen: list[int] = []
    real = Watch.one_of_several

    @contextmanager
    def counted(watch: Watch) -> Iterator[None]:
        one = object()
        with real(watch):
            beside.add(one)
            seen.append(len(beside))
            try:
                yield
            finally:
                beside.remove(one)

    monkeypatch.setattr(Watch, "one_of_several", counted)
    file = RangedFile(BODY)
    file.on_piece = Meeting(4)
    assert download.fetch(server.on("/x", file), limits=FOUR).size == len(BODY)
    assert (max(seen), len(seen), len(beside)) == (4, len(server.requests("/x")), 0)


def test_one_silent_connection_is_given_up_alone(server: WebServer, download: Download) -> None:
    file = InTurn(RangedFile(BODY), silent(b"HTTP/1.1 206 P\r\n"))
    assert download.fetch(server.on("/x", file), limits=limits(idle_timeout_s=2)).size == len(BODY)
    assert download.data == BODY


def test_h21_a_size_above_the_cap_is_refused_before_a_byte(server: WebServer, download: Download) -> None:
    with pytest.raises(ImageTooLarge):
        download.fetch(server.on("/x", RangedFile(BODY)), limits=FOUR, cap_bytes=len(BODY) - 1)
    assert (download.data, download.reserved, journal_of(download).exists()) == (b"", [], False)


def test_h21_without_room_nothing_is_written(server: WebServer, download: Download) -> None:
    def reserve(size_bytes: int) -> None:
        raise StagingFull(size_bytes, 5)

    with pytest.raises(StagingFull):
        download.fetch(server.on("/x", RangedFile(BODY)), limits=FOUR, reserve=reserve)
    assert download.data == b""


def test_a_busy_server_leaves_what_there_is(server: WebServer, download: Download) -> None:
    have = leave_with_half(server, download)
    with pytest.raises(SourceBusy):
        download.fetch(server.on("/x", answer(503, {"Retry-After": "5"})), limits=FOUR, resume=V1)
    assert download.fetch(server.on("/x", RangedFile(BODY)), limits=FOUR, resume=V1).resumed_from == have
    assert download.data == BODY


# --- connections of one machine ------------------------------------------------------------------


def test_imports_of_one_machine_share_the_connections_to_a_host(server: WebServer, tmp_path: Path) -> None:
    file = RangedFile(BODY)
    url = server.on("/x", file)
    downloads = [Download(tmp_path / f"{number}.part") for number in range(3)]
    shared = limits(connections_per_host=2)
    threads = [
        threading.Thread(
            target=one.fetch, args=(url,), kwargs={"limits": shared, "slots_file": tmp_path / "connections"}
        )
        for one in downloads
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.data == BODY for one in downloads] == [True, True, True]
    assert file.most_at_once <= 2


def test_an_import_that_waits_for_its_turn_can_be_cancelled(server: WebServer, tmp_path: Path) -> None:
    first, second = Download(tmp_path / "1.part"), Download(tmp_path / "2.part")
    slots = tmp_path / "connections"
    one = limits(connections_per_host=1)

    def while_served(talk: Talk, sent: int) -> None:
        if not sent:
            second.stop.stop(ImportCancelled("a test"))
            with pytest.raises(ImportCancelled):
                second.fetch(server.url("/x"), limits=one, slots_file=slots)

    file = RangedFile(BODY)
    file.on_piece = while_served
    assert first.fetch(server.on("/x", file), limits=one, slots_file=slots).size == len(BODY)
    assert not second.path.exists() or second.data == b""
    assert file.most_at_once == 1


# --- a process that is killed --------------------------------------------------------------------


@pytest.mark.faults
def test_a_killed_download_fetches_at_most_one_range_per_connection_again(server: WebServer, tmp_path: Path) -> None:
    size, range_bytes = 160 << 20, 16 << 20  # a range is more than the sockets hold
    body = os.urandom(1 << 20) * (size >> 20)
    file = RangedFile(body)
    half = threading.Event()

    def stop_at_half(talk: Talk, sent: int) -> None:
        if sent >= size // 2 and not half.is_set():
            half.set()
        if half.is_set() and not killed.is_set():
            killed.wait(300)
            raise ConnectionAbortedError("the client is gone")

    killed = threading.Event()
    file.on_piece = stop_at_half
    url = server.on("/x", file)
    part, notes = tmp_path / "image.part", tmp_path / "notes"
    arguments = [url, str(part), str(notes), str(range_bytes)]
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.download_process", *arguments])
    try:
        assert half.wait(300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed.set()
    done = download_in_four(url, part, notes, range_bytes)
    assert part.read_bytes() == body
    assert done.resumed_from > 0
    assert file.sent_bytes - size <= 4 * range_bytes


# --- staging -----------------------------------------------------------------------------------


@pytest.fixture
def area(tmp_path: Path) -> StagingArea:
    staging = StagingArea(tmp_path, "here", 0)
    staging.prepare("catalogue")
    staging.part("a").write_bytes(b"x")
    RangeJournal(staging.part("a")).void()
    staging.connections_file.touch()
    return staging


def test_a_parts_journal_is_removed_with_it(area: StagingArea) -> None:
    assert area.names() == ["a"]
    area.remove("a")
    assert area.names() == []
    assert sorted(os.listdir(area.directory)) == [".transship-catalogue", ".transship-connections"]


def test_a_sealed_file_has_no_journal(area: StagingArea) -> None:
    area.seal("a")
    assert (area.names(), area.ranges("a").exists()) == (["a"], False)
