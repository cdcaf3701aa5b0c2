"""Reading files with holes, and files that become shorter meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from transship.host.sparse_reading import PIECE_BYTES, FileEnded, data_extents, next_data, read_pieces
from transship.stores.copying import copy_extents

SIZE = 4 * PIECE_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file of random data, then a hole of one piece, then data."""
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.write(os.urandom(2 * PIECE_BYTES))
        stream.seek(3 * PIECE_BYTES)
        stream.write(os.urandom(PIECE_BYTES))
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_holes_are_zeros_and_the_rest_is_what_was_written(file: int) -> None:
    os.ftruncate(file, SIZE + 5)
    assert b"".join(bytes(piece) for piece in read_pieces(file, 0, SIZE + 5)) == os.pread(file, SIZE + 5, 0)
    assert list(data_extents(file, SIZE + 5)) == [(0, 2 * PIECE_BYTES), (3 * PIECE_BYTES, SIZE)]
    assert next_data(file, SIZE, SIZE + 5) == SIZE + 5


@pytest.mark.parametrize("shorter", [0, 7, PIECE_BYTES, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1, 3 * PIECE_BYTES])
@pytest.mark.parametrize("read", [lambda fd: read_pieces(fd, 0, SIZE), lambda fd: data_extents(fd, SIZE)])
def test_what_a_file_has_lost_is_not_taken_for_a_hole(read: Callable[[int], Any], shorter: int, file: int) -> None:
    reading = read(file)
    next(reading)
    os.ftruncate(file, shorter)
    with pytest.raises(FileEnded, match=f"the file ends at byte {shorter} of {SIZE}"):
        list(reading)


@pytest.mark.parametrize("shorter", [0, PIECE_BYTES, 2 * PIECE_BYTES, 3 * PIECE_BYTES])
def test_a_file_that_becomes_shorter_is_not_copied(shorter: int, file: int) -> None:
    target = os.memfd_create("target")
    try:
        with pytest.raises(FileEnded):
            copy_extents(file, target, SIZE, lambda _done: None, lambda _count: os.ftruncate(file, shorter))
    finally:
        os.close(target)
