"""Digests of the final bytes, holes and all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.digest import _pieces, digest, file_digests
from tasks.session import ImportSession
from tests.fakes.running_import import begin, easy_settings, final_of, session_of, staged_file
from transship.catalog.engine import Catalog
from transship.domain.errors import LockLost, StagingBroken
from transship.domain.import_data import Digests, SealedFile
from transship.domain.stop import StopToken
from transship.host.sparse_reading import PIECE_BYTES, ZEROS

ALGORITHMS = ["md5", "sha512"]


def unwatched(_done_bytes: int, _total_bytes: int) -> None:
    """Take progress that a test does not look at."""


def expected(content: bytes) -> dict[str, str]:
    return {name: hashlib.new(name, content, usedforsecurity=False).hexdigest() for name in ALGORITHMS}


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
def test_digests_are_those_of_hashlib(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert file_digests(tmp_path / "file", ALGORITHMS, StopToken(), unwatched) == expected(content)


PIECES = st.lists(
    st.tuples(st.booleans(), st.integers(1, 300)),  # hole or data, in kibibytes
    max_size=8,
)


@given(pieces=PIECES, odd_bytes=st.integers(0, 4095))
@settings(deadline=None, max_examples=60)
def test_holes_count_as_zeros_wherever_they_lie(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, int]], odd_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "sparse"
    with path.open("wb") as stream:
        for is_hole, kib in pieces:
            if is_hole:
                stream.seek(kib * 1024, os.SEEK_CUR)
            else:
                stream.write(b"\xa5" * (kib * 1024 - odd_bytes % 1024))
        stream.truncate(stream.tell() + odd_bytes)
    assert file_digests(path, ALGORITHMS, StopToken(), unwatched) == expected(path.read_bytes())


def test_a_file_that_is_one_hole_is_zeros(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(5 * PIECE_BYTES + 3)
    assert file_digests(tmp_path / "hole", ALGORITHMS, StopToken(), unwatched) == expected(bytes(5 * PIECE_BYTES + 3))


def test_a_disk_that_fails_is_never_taken_for_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"data")
    seek = os.lseek

    def failing(descriptor: int, position: int, how: int) -> int:
        if how == os.SEEK_DATA:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return seek(descriptor, position, how)

    monkeypatch.setattr(os, "lseek", failing)
    with pytest.raises(StagingBroken, match="Input/output error"):
        file_digests(tmp_path / "file", ["sha512"], StopToken(), unwatched)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StagingBroken):
        file_digests(tmp_path / "file", ALGORITHMS, StopToken(), unwatched)


def test_a_stop_ends_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    stop = StopToken()
    stop.stop(LockLost("image", 1))
    with pytest.raises(LockLost):
        file_digests(tmp_path / "file", ALGORITHMS, stop, unwatched)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("md5", [True, False])
def test_the_settings_choose_the_digests(tmp_path: Path, catalog: Catalog, algorithm: str, md5: bool) -> None:
    settings = easy_settings(tmp_path, imports={"hashing_algorithm": algorithm, "md5_checksum": md5})
    with session_of(settings, catalog, begin(catalog)) as session:
        found = digest.fn(final_of(session, staged_file(session, b"data"))).value
    md5_hex = hashlib.md5(b"data", usedforsecurity=False).hexdigest()
    assert found == Digests(md5_hex if md5 else None, algorithm, hashlib.new(algorithm, b"data").hexdigest())


def test_the_digest_of_a_staged_file_that_is_gone_fails(session: ImportSession) -> None:
    with pytest.raises(StagingBroken):
        digest.fn(final_of(session, SealedFile("nothing", 4)))


def test_the_digests_say_how_far_all_of_them_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.domain.throttle.EVERY_S", 0.0)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(9 * PIECE_BYTES + 1)
    seen: list[tuple[int, int]] = []
    file_digests(tmp_path / "hole", ALGORITHMS, StopToken(), lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {9 * PIECE_BYTES + 1}
    assert max(seen) == (9 * PIECE_BYTES + 1, 9 * PIECE_BYTES + 1)
    # Each algorithm has a thread: no report is ahead of the slower one, so there is more than the end.
    assert len({done for done, _ in seen}) > 2


def test_holes_are_hashed_without_a_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blank"
    with path.open("wb") as file:
        file.write(b"head")
        file.truncate(64 * PIECE_BYTES)
        file.seek(64 * PIECE_BYTES - 1)
        file.write(b"t")
    found = file_digests(path, ["md5"], StopToken(), unwatched)
    data = path.read_bytes()
    assert found["md5"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
    pieces = list(_pieces(path))
    # What is read comes as a view of the one read buffer; a hole is the same buffer of zeros each time.
    assert sum(len(piece) for piece in pieces if isinstance(piece, memoryview)) <= 2 * PIECE_BYTES
    assert {id(piece) for piece in pieces if isinstance(piece, bytes) and len(piece) == PIECE_BYTES} == {id(ZEROS)}


def test_the_task_shows_the_digest_as_the_phase_once_all_copies_are_made(session: ImportSession) -> None:
    staged = staged_file(session, b"x" * 100)
    session.board.enter("place", staged.size)
    session.board.store("local", "done", staged.size, staged.size)
    session.board.hashing(40, staged.size)
    assert (session.board.now.phase, session.board.now.done_bytes) == ("digest", 40)
    digest.fn(final_of(session, staged))
    assert (session.board.now.hashed_bytes, session.board.now.phase) == (100, "place")
