"""Features of the file store beyond the contract: links, holes, modes, durability, the system's errors."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.settings import FileStoreSettings
from transship.domain.errors import (
    ImportCancelled,
    ObjectMissing,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TransferFailed,
)
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK
from transship.stores.base import Content
from transship.stores.copying import PIECE_BYTES
from transship.stores.file import CHECK_NAMES, FileStore
from transship.stores_in_force import explained

MIB = 1024 * 1024
IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
NOBODY = 65534
CATALOGUE = "6f6b1e44-0000-4000-8000-00000000000c"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(images: Path) -> FileStore:
    return prepared("shelf", images)


def prepared(store_id: str, directory: Path, file_mode: int = 0o640) -> FileStore:
    """Return a store of a catalogue, ready for use."""
    made = FileStore(store_id, directory, file_mode, CATALOGUE)
    made.prepare((), before=False)
    return made


def names(directory: Path) -> list[str]:
    """Return the contents of a store's directory without its mark."""
    return sorted(name for name in os.listdir(directory) if name != MARK)


def stage(directory: Path, content: bytes, epoch: int = 1) -> StagedFile:
    path = directory / f"{IMAGE}.{epoch}.staged"
    path.write_bytes(content)
    path.chmod(0o600)
    return StagedFile(path, len(content), epoch)


def shared_elsewhere(staged: StagedFile) -> StagedFile:
    """Make the inode look like an object of another store with another mode, so that it is not linked again."""
    os.link(staged.path, staged.path.with_suffix(".other"))
    return staged


def ignore(done: int) -> None:
    """Progress that is ignored."""


def put(store: FileStore, staged: StagedFile) -> str:
    return store.put(IMAGE, staged, ignore, StopToken()).proof


@pytest.fixture
def other_filesystem(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another filesystem that can be written")
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        yield Path(directory)


@contextmanager
def tmpfs(path: Path, *options: str) -> Iterator[None]:
    """Mount a filesystem of 2 MiB, or skip."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(("size=2m", *options)), "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's rights, to which permissions do not apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everyone may enter; pytest's are closed to others."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


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


def test_a_full_filesystem_is_a_full_store(tmp_path: Path) -> None:
    staged = stage(tmp_path, os.urandom(4 * MIB))
    small = tmp_path / "small"
    with tmpfs(small):
        store = prepared("small", small)
        with pytest.raises(StoreFull, match=r"small is full.*4\.0 MiB"):
            put(store, staged)
        assert names(small) == []
        with suppress(OSError):  # as much as there is room for
            (small / "filler").write_bytes(bytes(2 * MIB))
        with pytest.raises(StoreFull):
            store.check()


@pytest.mark.spec("ST-018")
def test_a_read_only_filesystem_denies(tmp_path: Path) -> None:
    staged = stage(tmp_path, b"image")
    sealed = tmp_path / "sealed"
    with tmpfs(sealed, "ro"):
        store = FileStore("sealed", sealed, 0o640)
        for attempt in (lambda: put(store, staged), store.check):
            with pytest.raises(StoreDenied, match="Read-only"):
                attempt()


@pytest.mark.spec("ST-018")
def test_a_limit_on_file_sizes_is_a_full_store(store: FileStore, images: Path, tmp_path: Path) -> None:
    staged = shared_elsewhere(stage(tmp_path, bytes(os.urandom(MIB)) * 3))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal that goes with the limit; pytest does not change that.
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        with pytest.raises(StoreFull):
            put(store, staged)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(images) == []


@pytest.mark.spec("ST-018")
def test_a_directory_without_permission_denies_everything(open_dir: Path) -> None:
    images = open_dir / "images"
    store = prepared("shelf", images)
    staged = stage(open_dir, b"image")
    staged.path.chmod(0o644)
    url = store.put(IMAGE, staged, ignore, StopToken()).url
    images.chmod(0o555)
    another = IMAGE[:-1] + "2"
    with as_nobody():
        for attempt in (
            lambda: store.put(another, staged, ignore, StopToken()),
            lambda: store.delete(url),
            store.check,
        ):
            with pytest.raises(StoreDenied, match="Permission denied"):
                attempt()
    images.chmod(0o000)
    with as_nobody():
        for look in (lambda: store.size(url), lambda: store.read(url)):
            with pytest.raises(StoreDenied):
                look()
    images.chmod(0o755)
    assert names(images) == [IMAGE]


@pytest.mark.spec("ST-018")
def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FileStore("shelf", tmp_path / "file" / "images", 0o640)

    with pytest.raises(TransferFailed) as failed:
        store.check()

    settings = FileStoreSettings(dir=tmp_path / "file" / "images")
    assert str(tmp_path / "file") in explained(failed.value, "shelf", settings)


@pytest.mark.spec("ST-018")
def test_a_file_where_the_directory_belongs_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "images").touch()
    with capture_logs() as logged, pytest.raises(StoreUnavailable, match="Not a directory") as failed:
        FileStore("shelf", tmp_path / "images", 0o640).check()

    settings = FileStoreSettings(dir=tmp_path / "images")
    assert re.search(r"Not a directory.* \(.*/images\b", explained(failed.value, "shelf", settings))
    assert str(tmp_path / "images") in logged[-1]["path"]


@pytest.mark.spec("ST-018")
def test_errors_name_no_path_of_the_host(open_dir: Path) -> None:
    images = open_dir / "images"
    images.mkdir()
    store = FileStore("shelf", images, 0o640)
    gone = stage(open_dir, b"image").path.with_name("gone")
    vanished = replace(stage(open_dir, b"image"), path=gone)
    shorter = replace(stage(open_dir, b"image"), size=9)
    (images / IMAGE).mkdir()
    another = IMAGE[:-1] + "2"
    faults = (
        lambda: store.put(another, vanished, ignore, StopToken()),
        lambda: store.put(another, shorter, ignore, StopToken()),
        lambda: store.put(IMAGE, stage(open_dir, b"image"), ignore, StopToken()),
        lambda: store.size(store.url_of(another)),
        lambda: store.size(store.url_of(IMAGE)),
        lambda: store.read(store.url_of(another)),
        lambda: store.delete("file:///elsewhere/image"),
        lambda: store.delete(store.url_of(IMAGE)),
        lambda: FileStore("shelf", Path("/proc/images"), 0o640).check(),
    )
    for fault in faults:
        with pytest.raises(TransferFailed) as failed:
            fault()
        assert "/" not in str(failed.value)


def unmount(images: Path) -> None:
    shutil.rmtree(images)
    images.mkdir()


def mark_as(owner: str) -> Callable[[Path], object]:
    return lambda images: (images / MARK).write_text(owner)


WRONG_PLACES: dict[str, Callable[[Path], object]] = {
    "missing": shutil.rmtree,
    "empty": unmount,
    "mark not filled": mark_as(""),
    "another store's": mark_as(f"store quick of catalogue {CATALOGUE}"),
    "another catalogue's": mark_as("store shelf of catalogue 0ther"),
    "a staging directory": mark_as(CATALOGUE),
}


@pytest.mark.parametrize("become", WRONG_PLACES.values(), ids=WRONG_PLACES)
def test_a_directory_that_is_not_the_prepared_one_says_nothing_about_its_objects(
    store: FileStore, images: Path, tmp_path: Path, become: Callable[[Path], object]
) -> None:
    url = store.url_of(IMAGE)
    become(images)
    staged = stage(tmp_path, b"image")
    for use in (
        lambda: store.size(url),
        lambda: store.read(url),
        lambda: store.local_file(url),
        lambda: store.delete(url),
        lambda: store.discard_temporaries(IMAGE, 9),
        lambda: list(store.contents()),
        lambda: put(store, staged),
        store.check,
    ):
        with pytest.raises(StoreUnavailable):
            use()
    assert not images.exists() or names(images) == []


@pytest.mark.parametrize("owner", [f"store quick of catalogue {CATALOGUE}", "store shelf of catalogue 0ther", "0ther"])
def test_the_directory_of_another_is_refused_by_name(store: FileStore, images: Path, owner: str) -> None:
    (images / MARK).write_text(owner)
    for attempt in (store.check, lambda: store.prepare((), before=False)):
        with pytest.raises(StoreUnavailable, match=f"marked as that of another: {owner};"):
            attempt()
    assert (images / MARK).read_text() == owner


@pytest.mark.spec("ST-022")
def test_a_store_below_a_mount_point_is_not_made_again_while_nothing_is_mounted(tmp_path: Path) -> None:
    """The real thing: a filesystem that goes and comes back."""
    mount, volume = tmp_path / "mount", tmp_path / "volume"
    with tmpfs(volume):
        mount.mkdir()
        images = mount / "images"
        subprocess.run(["mount", "--bind", volume, mount], check=True)
        try:
            store = prepared("shelf", images)
            put(store, stage(tmp_path, b"image"))
            subprocess.run(["umount", mount], check=True)
            with pytest.raises(StoreUnavailable, match="not mounted"):
                store.size(store.url_of(IMAGE))
            with pytest.raises(StoreUnavailable, match="not mounted"):
                store.prepare((), before=True)
            assert os.listdir(mount) == []
            subprocess.run(["mount", "--bind", volume, mount], check=True)
            assert store.size(store.url_of(IMAGE)) == 5
        finally:
            subprocess.run(["umount", mount], check=False, capture_output=True)


def test_a_directory_that_holds_journalled_images_is_adopted(images: Path) -> None:
    images.mkdir()
    (images / IMAGE).write_bytes(b"image")
    made = FileStore("shelf", images, 0o640, CATALOGUE)
    made.prepare([made.url_of(IMAGE[:-1] + "2"), made.url_of(IMAGE), "file:///elsewhere/x"], before=False)
    assert made.size(made.url_of(IMAGE)) == 5


def test_a_directory_of_others_is_adopted_with_what_lies_in_it(images: Path) -> None:
    """A Glance's, or a new filesystem with its lost+found."""
    (images / "lost+found").mkdir(parents=True)
    (images / IMAGE).write_bytes(b"a Glance's")
    made = prepared("shelf", images)
    assert made.size(made.url_of(IMAGE)) == 10
    assert names(images) == [IMAGE, "lost+found"]


def test_an_empty_mark_is_the_operators_word_for_a_directory(store: FileStore, images: Path) -> None:
    unmount(images)
    with pytest.raises(StoreUnavailable):
        store.prepare((), before=True)
    (images / MARK).touch()
    with pytest.raises(StoreUnavailable):
        store.check()
    store.prepare([store.url_of(IMAGE)], before=True)
    store.check()


def test_hosts_on_one_mount_share_the_mark(store: FileStore, images: Path) -> None:
    other_host = FileStore("shelf", images, 0o640, CATALOGUE)
    other_host.check()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: other_host.prepare((), before=False), range(64)))
    assert os.listdir(images) == [MARK]


def test_the_mark_may_be_read_by_the_group(images: Path) -> None:
    before = os.umask(0o077)
    try:
        prepared("shelf", images)
    finally:
        os.umask(before)
    assert stat.S_IMODE((images / MARK).stat().st_mode) == 0o640


def test_a_store_of_no_catalogue_is_made_by_its_check_alone(images: Path, tmp_path: Path) -> None:
    free = FileStore("shelf", images, 0o640)
    with pytest.raises(StoreUnavailable):
        put(free, stage(tmp_path, b"image"))
    free.check()
    assert put(free, stage(tmp_path, b"image")) == "link"
    assert os.listdir(images) == [IMAGE]


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


def test_what_a_killed_check_left_the_next_one_removes(store: FileStore, images: Path) -> None:
    for name in CHECK_NAMES:
        (images / name).write_bytes(b"")
    store.check()
    assert names(images) == []
