"""Features of the file store beyond the contract: links, holes, modes, and what is an object."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.file_stores import (
    IMAGE,
    MIB,
    names,
    prepared,
    put,
    shared_elsewhere,
    stage,
)
from transship.domain.errors import (
    AlreadyStored,
    ImportCancelled,
    ObjectMissing,
    StoreDenied,
    StoreUnavailable,
)
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.stores.base import Content
from transship.stores.copying import PIECE_BYTES
from transship.stores.file import CHECK_NAMES, FileStore


def test_a_staged_file_on_the_same_filesystem_is_linked(store: FileStore, images: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path, b"image")

    assert put(store, staged) == "link"
    assert (images / IMAGE).samefile(staged.path)
    assert stat.S_IMODE((images / IMAGE).stat().st_mode) == 0o640


def test_two_stores_of_one_mode_share_the_inode(store: FileStore, images: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path, b"image")
    other = prepared("other", tmp_path / "other")

    assert [put(store, staged), put(other, staged)] == ["link", "link"]
    assert (images / IMAGE).samefile(tmp_path / "other" / IMAGE)


def test_a_store_of_another_mode_gets_a_file_of_its_own(store: FileStore, images: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path, b"image")
    put(store, staged)
    other = prepared("other", tmp_path / "other", 0o644)

    assert put(other, staged) in ("copy", "reflink")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (images / IMAGE, tmp_path / "other" / IMAGE)] == [
        0o640,
        0o644,
    ]


def test_the_object_of_another_store_is_shared_but_keeps_its_mode(
    store: FileStore, images: Path, tmp_path: Path
) -> None:
    put(store, stage(tmp_path, b"image"))
    (tmp_path / IMAGE).unlink(missing_ok=True)
    theirs = StagedFile(images / IMAGE, 5, 2, stored=True)
    same, other = prepared("same", tmp_path / "same"), prepared("other", tmp_path / "other", 0o644)

    assert put(same, theirs) == "link"
    assert put(other, theirs) in ("copy", "reflink")
    assert stat.S_IMODE((images / IMAGE).stat().st_mode) == 0o640


def test_copies_keep_holes_within_a_filesystem(store: FileStore, images: Path, tmp_path: Path) -> None:
    staged = shared_elsewhere(sparse(tmp_path))

    assert put(store, staged) in ("copy", "reflink")
    assert (images / IMAGE).read_bytes() == staged.path.read_bytes()
    assert (images / IMAGE).stat().st_blocks * 512 < 2 * MIB


def test_copies_keep_holes_across_filesystems(other_filesystem: Path, tmp_path: Path) -> None:
    staged = sparse(tmp_path)

    assert put(prepared("far", other_filesystem, 0o644), staged) == "copy"
    copied = other_filesystem / IMAGE
    assert copied.read_bytes() == staged.path.read_bytes()
    assert copied.stat().st_blocks * 512 < 2 * MIB
    assert stat.S_IMODE(copied.stat().st_mode) == 0o644


def sparse(directory: Path) -> StagedFile:
    """A file of 64 MiB with data at its start, its middle and its end."""
    staged = stage(directory, b"start")
    with staged.path.open("r+b") as file:
        for offset, data in ((30 * MIB + 5, b"middle"), (64 * MIB - 3, b"end")):
            file.seek(offset)
            file.write(data)
    return StagedFile(staged.path, 64 * MIB, 1)


def test_a_stop_ends_a_copy_within_a_piece(other_filesystem: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path, bytes(os.urandom(MIB)) * 40)
    stop = StopToken()
    seen: list[int] = []

    def stop_at_once(done: int) -> None:
        seen.append(done)
        stop.stop(ImportCancelled("by the user"))

    with pytest.raises(ImportCancelled):
        prepared("far", other_filesystem).put(IMAGE, staged, stop_at_once, stop)

    assert seen == [0]
    assert PIECE_BYTES <= 16 * MIB
    assert names(other_filesystem) == []


def test_a_leftover_link_to_the_staged_file_is_replaced_not_written(
    store: FileStore, images: Path, tmp_path: Path
) -> None:
    older, newer = stage(tmp_path, b"older"), stage(tmp_path, b"newer", epoch=2)
    os.link(older.path, images / f"{IMAGE}.2.part")

    put(store, newer)

    assert older.path.read_bytes() == b"older"
    assert (images / IMAGE).read_bytes() == b"newer"


@pytest.mark.spec("ST-018")
def test_a_writer_that_slept_while_another_took_over_leaves_the_others_object_alone(
    store: FileStore, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_sleep(source: Path, target: Path, **options: bool) -> None:
        link(source, target, **options)
        if target == images / IMAGE:
            # Its lease is over; the next one removes what it left and writes its own copy.
            monkeypatch.setattr(os, "link", link)
            store.delete(store.url_of(IMAGE))
            store.discard_temporaries(IMAGE, 2)
            put(store, stage(tmp_path, b"the next one's", epoch=2))

    monkeypatch.setattr(os, "link", link_and_sleep)
    put(store, stage(tmp_path, b"mine"))
    assert {name: (images / name).read_bytes() for name in names(images)} == {IMAGE: b"the next one's"}


@pytest.mark.parametrize("kind", ["symbolic link", "fifo", "directory"])
def test_what_is_not_a_regular_file_is_no_object(store: FileStore, images: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    make: dict[str, Callable[[], object]] = {
        "symbolic link": lambda: (images / IMAGE).symlink_to(tmp_path / "secret"),
        "fifo": lambda: os.mkfifo(images / IMAGE),
        "directory": (images / IMAGE).mkdir,
    }
    make[kind]()
    url = store.url_of(IMAGE)

    for look in (lambda: store.size(url), lambda: store.read(url)):
        with pytest.raises(ObjectMissing):
            look()
    with pytest.raises(StoreDenied):
        store.delete(url)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert names(images) == [IMAGE]


def test_temporaries_are_no_objects(store: FileStore, images: Path) -> None:
    (images / f"{IMAGE}.1.part").write_bytes(b"half")

    with pytest.raises(ObjectMissing):
        store.read(store.url_of(f"{IMAGE}.1.part"))


def test_a_file_that_is_cut_while_it_is_read_is_an_error(store: FileStore, images: Path, tmp_path: Path) -> None:
    put(store, stage(tmp_path, bytes(3 * MIB)))
    pieces = store.read(store.url_of(IMAGE))
    next(pieces)
    os.truncate(images / IMAGE, 2 * MIB)

    with pytest.raises(StoreUnavailable, match="was cut to 2097152 bytes"):
        list(pieces)


def test_a_reader_that_gives_up_keeps_no_file_open(store: FileStore, tmp_path: Path) -> None:
    put(store, stage(tmp_path, bytes(3 * MIB)))
    before = len(os.listdir("/proc/self/fd"))
    pieces = store.read(store.url_of(IMAGE))
    next(pieces)

    del pieces

    assert len(os.listdir("/proc/self/fd")) == before


def test_the_url_is_glances(images: Path, store: FileStore) -> None:
    assert store.url_of(IMAGE) == f"file://{images}/{IMAGE}"


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        FileStore("shelf", Path("images"), 0o640)


def test_its_contents_are_all_names_but_those_of_a_running_check(store: FileStore, images: Path) -> None:
    found = {"notes.txt", IMAGE, f"{IMAGE}.raw", f"{IMAGE}.7.part", f"{IMAGE.upper()}.7.part", "a.part"}
    for name in {*found, ".check", ".check.link"}:
        (images / name).touch()
    urls = {name: f"file://{images}/{name}" for name in found} | {f"{IMAGE}.7.part": f"file://{images}/{IMAGE}"}
    assert set(store.contents()) == {Content(name, url) for name, url in urls.items()}


def test_files_that_an_nfs_client_keeps_for_a_reader_are_not_listed(store: FileStore, images: Path) -> None:
    (images / ".nfs00000000046a0b2c00000001").touch()
    (images / ".nfs").touch()
    assert [content.name for content in store.contents()] == [".nfs"]


def test_a_name_that_a_repeated_call_reports_is_its_own(
    store: FileStore, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client repeats a call whose answer was lost; the server has already carried it out."""
    link = os.link

    def answer_is_lost(source: Path, target: Path, **options: bool) -> None:
        link(source, target, **options)
        if target == images / IMAGE:
            link(source, target, **options)

    monkeypatch.setattr(os, "link", answer_is_lost)
    put(store, stage(tmp_path, b"image"))
    assert (names(images), store.size(store.url_of(IMAGE))) == ([IMAGE], 5)
    with pytest.raises(AlreadyStored):
        put(store, stage(tmp_path, b"image", epoch=2))


def test_what_a_killed_check_left_the_next_one_removes(store: FileStore, images: Path) -> None:
    for name in CHECK_NAMES:
        (images / name).write_bytes(b"")
    store.check()
    assert names(images) == []
