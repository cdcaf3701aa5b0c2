"""Reading back a copy that was just written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from uuid import uuid4

import pytest

from tests.fakes.flaky_store import FlakyStore
from transship.domain.errors import ImportCancelled, ObjectMissing, StagingBroken, StoredDiffers
from transship.domain.import_data import SealedFile
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.domain.verification import Verification
from transship.host.sparse_reading import data_extents
from transship.placing.verification import SAMPLE_BYTES, SAMPLES, samples, verify_copy, verify_stored_copy
from transship.stores.file import FileStore

MIB = 1024 * 1024
DATA = os.urandom(6 * MIB + 5)


class Watch:
    """Notes that a copy is read back."""

    verifying = False

    def advance(self, done_bytes: int) -> None: ...

    def wait(self, text: str) -> None: ...

    def verify(self) -> None:
        self.verifying = True


class Shelf:
    """A store with a copy of a file.

    Attributes:
        found: bytes that the store holds.
    """

    def __init__(self, directory: Path, verification: Verification) -> None:
        self.file = directory / "file"
        self.file.write_bytes(DATA)
        self.store = FlakyStore("shelf")
        self.store.verification = verification
        self.image_id = str(uuid4())
        self.store.objects[self.image_id] = DATA
        self.watch, self.stop = Watch(), StopToken()

    def change(self, offset: int) -> None:
        changed = bytearray(DATA)
        changed[offset] ^= 1
        self.store.objects[self.image_id] = bytes(changed)

    def verify(self) -> None:
        url = self.store.url_of(self.image_id)
        verify_copy(self.store, "shelf", url, self.file, len(DATA), self.stop, self.watch)


@pytest.fixture(params=list(Verification))
def shelf(tmp_path: Path, request: pytest.FixtureRequest) -> Shelf:
    return Shelf(tmp_path, request.param)


@pytest.fixture
def full(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, Verification.FULL)


def test_a_good_copy_passes(shelf: Shelf) -> None:
    shelf.verify()
    # Samples take no time that anybody would have to know about.
    assert shelf.watch.verifying == (shelf.store.verification is Verification.FULL)


def test_a_copy_of_another_size_differs_unless_nothing_is_verified(shelf: Shelf) -> None:
    shelf.store.objects[shelf.image_id] = DATA[:-1]
    if shelf.store.verification is Verification.NONE:
        shelf.verify()
        return
    with pytest.raises(StoredDiffers, match=f"expected {len(DATA)} bytes, found {len(DATA) - 1} bytes"):
        shelf.verify()


@pytest.mark.parametrize("offset", [0, 1000, len(DATA) - 1])
def test_other_bytes_at_either_end_are_found_by_samples(tmp_path: Path, offset: int) -> None:
    shelf = Shelf(tmp_path, Verification.SAMPLE)
    shelf.change(offset)
    with pytest.raises(StoredDiffers, match="store shelf holds other data than were written"):
        shelf.verify()


@pytest.mark.parametrize("offset", range(0, len(DATA), MIB))
def test_a_full_verification_finds_any_other_byte(full: Shelf, offset: int) -> None:
    full.change(offset)
    with pytest.raises(StoredDiffers, match="the bytes written at"):
        full.verify()


def test_a_full_verification_ends_when_the_import_must(full: Shelf) -> None:
    full.stop.stop(ImportCancelled("enough"))
    with pytest.raises(ImportCancelled, match="enough"):
        full.verify()


def test_a_copy_that_is_gone_is_missing(full: Shelf) -> None:
    full.store.objects.clear()
    with pytest.raises(ObjectMissing):
        full.verify()


def test_a_staged_file_that_is_gone_is_no_fault_of_the_store(full: Shelf) -> None:
    full.file.unlink()
    with pytest.raises(StagingBroken):
        full.verify()


def test_a_link_is_not_compared_with_itself(tmp_path: Path) -> None:
    store, image_id, file = FileStore("shelf", tmp_path / "images", 0o640, "catalogue"), str(uuid4()), tmp_path / "file"
    store.verification = Verification.FULL
    store.prepare((), before=False)
    file.write_bytes(DATA)
    stored = store.put(image_id, StagedFile(file, len(DATA), 1), lambda _done: None, StopToken())
    assert stored.proof == "link"
    watch = Watch()
    verify_copy(store, "shelf", stored.url, file, len(DATA), StopToken(), watch)
    assert not watch.verifying


def sampled(file: Path) -> list[tuple[int, int]]:
    with file.open("rb") as opened:
        return list(samples(list(data_extents(opened.fileno(), file.stat().st_size))))


def test_samples_lie_in_the_data_and_include_both_ends(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.write(os.urandom(3 * MIB))
        sparse.seek(64 * MIB)
        sparse.write(os.urandom(5 * MIB))
        sparse.truncate(128 * MIB)
    found = sampled(file)
    assert 2 <= len(found) <= SAMPLES
    assert found[0] == (0, SAMPLE_BYTES)
    assert found[-1] == (69 * MIB - SAMPLE_BYTES, SAMPLE_BYTES)
    for offset, length in found:
        assert 0 < length <= SAMPLE_BYTES
        assert offset + length <= 3 * MIB or 64 * MIB <= offset <= offset + length <= 69 * MIB


@pytest.mark.parametrize(("size", "expected"), [(0, []), (1, [(0, 1)]), (SAMPLE_BYTES, [(0, SAMPLE_BYTES)])])
def test_small_files_are_one_sample(tmp_path: Path, size: int, expected: list[tuple[int, int]]) -> None:
    file = tmp_path / "small"
    file.write_bytes(os.urandom(size))
    assert sampled(file) == expected


def stored_copy(shelf: Shelf, found: bytes) -> None:
    """Verify a store's copy of another store's object."""
    origin = FlakyStore("origin")
    origin.objects[shelf.image_id] = DATA
    shelf.store.objects[shelf.image_id] = found
    url = origin.url_of(shelf.image_id)
    digests = {"md5": "not looked at", "sha256": hashlib.sha256(DATA).hexdigest()}
    file = SealedFile("origin/image", len(DATA), "origin", url=url, digests=digests)
    there = shelf.store.url_of(shelf.image_id)
    verify_stored_copy(shelf.store, "shelf", there, origin, file, shelf.stop, shelf.watch)


def test_a_good_copy_of_a_stored_object_passes(shelf: Shelf) -> None:
    stored_copy(shelf, DATA)
    assert shelf.watch.verifying == (shelf.store.verification is Verification.FULL)


@pytest.mark.parametrize("found", [DATA[:-1], DATA[:-1] + bytes([DATA[-1] ^ 1])], ids=["shorter", "other"])
def test_a_bad_copy_of_a_stored_object_differs_unless_nothing_is_verified(shelf: Shelf, found: bytes) -> None:
    if shelf.store.verification is Verification.NONE:
        stored_copy(shelf, found)
        return
    with pytest.raises(StoredDiffers, match="store shelf holds other data than were written"):
        stored_copy(shelf, found)


def test_a_full_verification_of_a_copy_by_its_digest_ends_when_the_import_must(full: Shelf) -> None:
    full.stop.stop(ImportCancelled("enough"))
    with pytest.raises(ImportCancelled, match="enough"):
        stored_copy(full, DATA)
