"""The store contract of docs/stores.md, tested for every store.

A new store joins by a module in ``cases`` and an entry of ``cases/tables.py``; nothing changes here.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest

from tests.contract.cases.case import StoreCase
from tests.contract.cases.tables import READ_ONLY, WRITABLE
from transship.domain.errors import (
    AlreadyStored,
    ImportCancelled,
    LockLost,
    ObjectMissing,
    StagingBroken,
    StoreDenied,
    StoreUnavailable,
)
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.base import StoreDriver, Unfinished

MIB = 1024 * 1024
IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
OTHER_IMAGE = "3f2a1c9e-0000-4000-8000-000000000002"


class Stage(Protocol):
    """Make a sealed staged file."""

    def __call__(self, content: bytes, epoch: int = 1) -> StagedFile: ...


@pytest.fixture(params=WRITABLE)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    with request.param(request, tmp_path) as made:
        yield made


@pytest.fixture(params=[*WRITABLE, *READ_ONLY])
def readable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreCase]:
    """A store of any kind, for the rules about reading."""
    with request.param(request, tmp_path) as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    staging = tmp_path / "staging"
    staging.mkdir()

    def make(content: bytes, epoch: int = 1) -> StagedFile:
        descriptor, name = tempfile.mkstemp(dir=staging)
        with open(descriptor, "wb") as file:
            file.write(content)
        return StagedFile(Path(name), len(content), epoch)

    return make


class CountingStop(StopToken):
    """A stop token that counts its checks and runs ``at`` at the check of that number."""

    def __init__(self, number: int = 0, at: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.checks = 0
        self.number, self.at = number, at

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.number and self.at is not None:
            self.at()
        super().check()


def ignore(done: int) -> None:
    """Progress that is ignored."""


def put(case: StoreCase, staged: StagedFile, image_id: str = IMAGE) -> str:
    return case.store.put(image_id, staged, ignore, StopToken()).url


def given(case: StoreCase, stage: Stage, content: bytes, image_id: str = IMAGE) -> str:
    """Let a store have an object; return its URL."""
    return put(case, stage(content), image_id) if case.serve is None else case.serve(image_id, content)


def stored(case: StoreCase, url: str) -> bytes:
    return b"".join(case.store.read(url))


def checks_of_a_put(case: StoreCase, staged: StagedFile) -> int:
    stop = CountingStop()
    case.store.delete(case.store.put(IMAGE, staged, ignore, stop).url)
    return stop.checks


@pytest.mark.spec("ST-001")
@pytest.mark.parametrize(
    "content",
    [b"", b"x", os.urandom(3 * MIB + 17), bytes(2 * MIB) + b"data" + bytes(2 * MIB)],
    ids=["empty", "one byte", "3 MiB and 17 bytes", "mostly zeros"],
)
def test_put_keeps_exactly_the_staged_bytes(case: StoreCase, stage: Stage, content: bytes) -> None:
    receipt = case.store.put(IMAGE, stage(content), ignore, StopToken())

    assert (receipt.size, case.store.size(receipt.url)) == (len(content), len(content))
    assert stored(case, receipt.url) == content
    assert receipt.proof


@pytest.mark.spec("ST-001")
def test_put_keeps_a_file_of_holes(case: StoreCase, stage: Stage) -> None:
    staged = stage(b"")
    with staged.path.open("r+b") as file:
        file.truncate(24 * MIB)
        file.seek(9 * MIB + 3)
        file.write(b"island")
    expected = staged.path.read_bytes()

    assert stored(case, put(case, StagedFile(staged.path, 24 * MIB, 1))) == expected


@pytest.mark.spec("ST-002")
def test_a_stop_at_any_check_leaves_nothing(case: StoreCase, stage: Stage) -> None:
    staged = stage(os.urandom(2 * MIB))
    for number in range(1, checks_of_a_put(case, staged) + 1):
        stop = CountingStop(number)
        stop.at = partial(stop.stop, ImportCancelled("by the user"))

        with pytest.raises(ImportCancelled):
            case.store.put(IMAGE, staged, ignore, stop)

        assert case.names() == set()


@pytest.mark.spec("ST-002")
def test_a_lost_lease_leaves_only_what_others_wrote(case: StoreCase, stage: Stage) -> None:
    staged = stage(b"image", epoch=4)
    last = checks_of_a_put(case, staged)
    case.leave_temporary(IMAGE, 5)
    stop = CountingStop(last)
    stop.at = partial(stop.stop, LockLost(IMAGE, 4))
    before = case.names()

    with pytest.raises(LockLost):
        case.store.put(IMAGE, staged, ignore, stop)

    assert case.names() == before


@pytest.mark.spec("ST-003")
def test_put_never_replaces_an_object(case: StoreCase, stage: Stage) -> None:
    url = put(case, stage(b"first"))

    with pytest.raises(AlreadyStored):
        put(case, stage(b"second", epoch=2))

    assert stored(case, url) == b"first"
    assert case.names() == {IMAGE}


@pytest.mark.spec("ST-003")
def test_an_object_that_appears_while_another_is_written_stays(case: StoreCase, stage: Stage) -> None:
    slow, fast = stage(b"slow", epoch=1), stage(b"fast", epoch=2)
    last = checks_of_a_put(case, slow)

    with pytest.raises(AlreadyStored):
        case.store.put(IMAGE, slow, ignore, CountingStop(last, partial(put, case, fast)))

    assert stored(case, case.store.url_of(IMAGE)) == b"fast"
    assert case.names() == {IMAGE}


@pytest.mark.spec("ST-004")
def test_the_stop_token_is_checked_often_enough(case: StoreCase, stage: Stage) -> None:
    stop = CountingStop()
    receipt = case.store.put(IMAGE, stage(os.urandom(40 * MIB)), ignore, stop)

    pieces = 1 if receipt.proof in ("link", "reflink") else 3
    assert stop.checks >= pieces + 1


@pytest.mark.spec("ST-005")
def test_the_staged_file_is_not_written_and_not_needed_afterwards(case: StoreCase, stage: Stage) -> None:
    content = os.urandom(MIB)
    staged = stage(content)
    url = put(case, staged)

    assert staged.path.read_bytes() == content
    staged.path.unlink()
    assert stored(case, url) == content


@pytest.mark.spec("ST-005")
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"longer than said")])
def test_a_staged_file_that_is_not_as_said_is_refused(
    case: StoreCase, stage: Stage, damage: Callable[[Path], object]
) -> None:
    staged = stage(b"image")
    damage(staged.path)

    with pytest.raises(StagingBroken):
        put(case, staged)

    assert case.names() == set()


@pytest.mark.spec("ST-006")
def test_put_can_be_repeated_where_an_attempt_of_its_epoch_was_killed(case: StoreCase, stage: Stage) -> None:
    case.leave_temporary(IMAGE, 7)

    assert stored(case, put(case, stage(b"whole", epoch=7))) == b"whole"
    assert case.names() == {IMAGE}


@pytest.mark.spec("ST-007")
def test_progress_rises_to_the_size(case: StoreCase, stage: Stage) -> None:
    seen: list[int] = []
    case.store.put(IMAGE, stage(os.urandom(20 * MIB)), seen.append, StopToken())

    assert seen == sorted(seen)
    assert seen[-1] == 20 * MIB


@pytest.mark.spec("ST-008")
def test_an_object_that_is_not_there_is_missing(readable: StoreCase, stage: Stage) -> None:
    absent = given(readable, stage, b"image").replace(IMAGE, OTHER_IMAGE)

    with pytest.raises(ObjectMissing):
        readable.store.size(absent)
    with pytest.raises(ObjectMissing):
        readable.store.read(absent)


@pytest.mark.spec("ST-009")
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (1, None), (5 * MIB - 1, None), (5 * MIB, None), (9 * MIB, None), (0, 0), (3, 5), (100, 9 * MIB)],
)
def test_read_yields_the_range_that_was_asked_for(
    readable: StoreCase, stage: Stage, offset: int, length: int | None
) -> None:
    content = os.urandom(5 * MIB)
    url = given(readable, stage, content)
    end = None if length is None else offset + length

    pieces = list(readable.store.read(url, offset, length))

    assert b"".join(pieces) == content[offset:end]
    assert all(64 * 1024 <= len(piece) <= 4 * MIB for piece in pieces[:-1])
    assert all(pieces)


@pytest.mark.spec("ST-010")
def test_delete_removes_an_object_and_may_be_repeated(case: StoreCase, stage: Stage) -> None:
    url = put(case, stage(b"image"))

    case.store.delete(url)
    case.store.delete(url)

    assert case.names() == set()
    assert stored(case, put(case, stage(b"again"))) == b"again"


@pytest.mark.spec("ST-011")
def test_only_older_temporaries_of_the_image_are_discarded(case: StoreCase, stage: Stage) -> None:
    put(case, stage(b"image"))
    for image_id, epoch in ((IMAGE, 2), (IMAGE, 9), (IMAGE, 10), (OTHER_IMAGE, 2)):
        case.leave_temporary(image_id, epoch)
    before = case.names()

    assert case.store.discard_temporaries(IMAGE, 10) == 2
    assert case.store.discard_temporaries(IMAGE, 10) == 0
    assert len(before - case.names()) == 2
    assert {IMAGE} < case.names()


@pytest.mark.spec("ST-011")
def test_nothing_to_discard_is_no_error(case: StoreCase) -> None:
    assert case.store.discard_temporaries(IMAGE, 3) == 0


@pytest.mark.spec("ST-012")
def test_a_writer_whose_temporary_was_discarded_publishes_nothing(case: StoreCase, stage: Stage) -> None:
    staged = stage(b"late", epoch=1)
    last = checks_of_a_put(case, staged)
    stop = CountingStop(last, partial(case.store.discard_temporaries, IMAGE, 2))

    with pytest.raises(StoreUnavailable):
        case.store.put(IMAGE, staged, ignore, stop)

    assert case.names() == set()


@pytest.mark.spec("ST-013")
def test_the_url_is_known_beforehand_and_holds_no_credentials(case: StoreCase, stage: Stage) -> None:
    url = put(case, stage(b"image"))
    parts = urlsplit(url)

    assert url == case.store.url_of(IMAGE)
    assert parts.scheme
    assert IMAGE in parts.path.split("/")
    assert (parts.username, parts.password, parts.query) == (None, None, "")


@pytest.mark.spec("ST-014")
@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "s3://images/x", "memory://elsewhere/x", "{store}../outside", "{store}", "{store}a/b"],
)
def test_urls_of_others_are_neither_read_nor_deleted(case: StoreCase, stage: Stage, url: str) -> None:
    put(case, stage(b"image"))
    store = case.store.url_of(IMAGE).partition(IMAGE)[0]
    foreign = url.format(store=store)

    with pytest.raises(ObjectMissing):
        case.store.size(foreign)
    with pytest.raises(ObjectMissing):
        case.store.read(foreign)
    if not foreign.startswith(store):
        with pytest.raises(StoreDenied):
            case.store.delete(foreign)
    assert case.names() == {IMAGE}


@pytest.mark.spec("ST-027")
def test_a_url_of_the_store_is_known_and_others_are_not(readable: StoreCase, stage: Stage) -> None:
    url = readable.serve(IMAGE, b"image") if readable.serve else put(readable, stage(b"image"))
    before = readable.names()

    assert readable.store.own_url(url) == url
    for foreign in (
        "",
        "nonsense",
        "file:///etc/passwd",
        "s3://elsewhere.example.org/images/x",
        "swift+config://a/b/c",
    ):
        assert readable.store.own_url(foreign) is None
    assert readable.names() == before


@pytest.mark.spec("ST-015")
@pytest.mark.parametrize("name", ["", "x", "../x", IMAGE.upper(), IMAGE.replace("-", ""), f"{{{IMAGE}}}"])
def test_only_canonical_ids_name_objects(case: StoreCase, stage: Stage, name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - a programming error, not a fact about the store
        put(case, stage(b"image"), name)

    assert case.names() == set()


@pytest.mark.spec("ST-016")
def test_check_leaves_nothing_behind(readable: StoreCase) -> None:
    readable.store.check()

    assert readable.names() == set()


@pytest.mark.spec("ST-017")
def test_of_two_writers_of_one_image_one_wins(case: StoreCase, stage: Stage) -> None:
    contents = {epoch: os.urandom(MIB) for epoch in (1, 2)}
    staged = [stage(content, epoch) for epoch, content in contents.items()]
    together = threading.Barrier(2)

    def write(one: StagedFile) -> int:
        together.wait(120)
        try:
            put(case, one)
        except AlreadyStored:
            return 0
        return one.epoch

    with ThreadPoolExecutor(2) as threads:
        winners = [epoch for epoch in threads.map(write, staged) if epoch]

    assert len(winners) == 1
    assert stored(case, case.store.url_of(IMAGE)) == contents[winners[0]]
    assert case.names() == {IMAGE}


@pytest.mark.spec("ST-017")
def test_two_threads_write_and_read_different_images(case: StoreCase, stage: Stage) -> None:
    contents = {image_id: os.urandom(2 * MIB) for image_id in (IMAGE, OTHER_IMAGE)}
    staged = {image_id: stage(content) for image_id, content in contents.items()}

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda image_id: stored(case, put(case, staged[image_id], image_id)), contents))

    assert found == list(contents.values())


@pytest.mark.spec("ST-019")
def test_its_contents_are_objects_and_temporaries_with_their_urls(case: StoreCase, stage: Stage) -> None:
    put(case, stage(b"image"))
    case.leave_temporary(OTHER_IMAGE, 7)
    before = case.names()

    contents = list(case.store.contents())

    assert {content.url for content in contents} == {case.store.url_of(IMAGE), case.store.url_of(OTHER_IMAGE)}
    assert len(contents) == 2
    assert case.names() == before


@pytest.mark.spec("ST-019")
def test_a_store_that_was_never_written_has_no_contents(readable: StoreCase) -> None:
    assert list(readable.store.contents()) == []
    assert readable.names() == set()


@pytest.mark.spec("ST-020")
def test_the_file_of_an_object_is_the_object(readable: StoreCase, stage: Stage) -> None:
    url = given(readable, stage, b"image")
    path = readable.store.local_file(url)
    assert path is None or path.read_bytes() == b"image"
    with pytest.raises(ObjectMissing):
        readable.store.local_file(url.replace(IMAGE, OTHER_IMAGE))


@pytest.mark.spec("ST-021")
def test_a_store_that_is_ready_may_be_prepared_again(readable: StoreCase, stage: Stage) -> None:
    url = given(readable, stage, b"image")
    for before in (True, False):
        readable.store.prepare([url], before=before)
    assert stored(readable, url) == b"image"
    assert readable.names() == {IMAGE}


@pytest.mark.spec("ST-021")
@pytest.mark.parametrize("known", [True, False])
def test_a_store_that_should_be_there_is_not_made_anew(case: StoreCase, stage: Stage, known: bool) -> None:
    url = put(case, stage(b"image"))
    with case.away(), pytest.raises(StoreUnavailable):
        case.store.prepare([url] if known else [], before=not known)
    assert stored(case, url) == b"image"


USES: dict[str, Callable[[StoreDriver, str, StagedFile], object]] = {
    "put": lambda store, _url, staged: store.put(OTHER_IMAGE, staged, ignore, StopToken()),
    "size": lambda store, url, _staged: store.size(url),
    "local_file": lambda store, url, _staged: store.local_file(url),
    "read": lambda store, url, _staged: store.read(url),
    "delete": lambda store, url, _staged: store.delete(url),
    "discard_temporaries": lambda store, _url, _staged: store.discard_temporaries(IMAGE, 99),
    "contents": lambda store, _url, _staged: list(store.contents()),
    "check": lambda store, _url, _staged: store.check(),
}


@pytest.mark.spec("ST-022")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_store_that_is_away_neither_takes_nor_denies_anything(
    case: StoreCase, stage: Stage, use: Callable[[StoreDriver, str, StagedFile], object]
) -> None:
    url = put(case, stage(b"image"))
    case.leave_temporary(IMAGE, 7)
    before = case.names()
    with case.away(), pytest.raises(StoreUnavailable):
        use(case.store, url, stage(b"another"))
    assert case.names() == before
    assert stored(case, url) == b"image"


@pytest.mark.spec("ST-023")
def test_a_token_of_what_is_gone_changes_nothing(case: StoreCase, stage: Stage) -> None:
    kept: list[str] = []
    gone = Unfinished("of-an-upload-that-is-gone", kept.append)
    content = os.urandom(3 * MIB)

    url = case.store.put(IMAGE, stage(content), ignore, StopToken(), gone).url

    assert stored(case, url) == content
    assert case.names() == {IMAGE}
    assert case.store.discard_temporaries(IMAGE, 1, kept[0] if kept else gone.token) == 0
    assert stored(case, url) == content
