"""A file store with several directories: which one an image goes to, and what happens while one is away."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import FileStoreSettings
from tests.fakes.file_stores import CATALOGUE, IMAGE, MIB, ignore, names, stage, tmpfs
from transship.domain.errors import AlreadyStored, ObjectMissing, StoreDenied, StoreFull, StoreUnavailable
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK, read_mark
from transship.stores.directories import DirectoriesStore, file_store
from transship.stores.file import FileStore

OTHER = IMAGE[:-1] + "2"


def of(*directories: tuple[Path, int], file_mode: int = 0o640) -> DirectoriesStore:
    store = DirectoriesStore("shelf", directories, file_mode, CATALOGUE)
    store.prepare((), before=False)
    return store


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return tmp_path / "first"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return tmp_path / "second"


@pytest.fixture
def two(first: Path, second: Path) -> DirectoriesStore:
    return of((first, 0), (second, 0))


def put(store: DirectoriesStore, staged: StagedFile, image_id: str = IMAGE) -> str:
    return store.put(image_id, staged, ignore, StopToken()).url


def fully_written(directory: Path, size: int) -> StagedFile:
    return stage(directory, os.urandom(size))


@contextmanager
def away(directory: Path) -> Iterator[None]:
    """An empty directory in its place, as a mount point is."""
    elsewhere = directory.rename(directory.with_name("elsewhere"))
    directory.mkdir()
    yield
    assert os.listdir(directory) == []
    directory.rmdir()
    elsewhere.rename(directory)


# --- which directory ---------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(0, 100), (-1, 0)])
def test_the_directory_with_the_highest_weight_is_written(
    weights: tuple[int, int], first: Path, second: Path, tmp_path: Path
) -> None:
    store = of((first, weights[0]), (second, weights[1]))
    assert store.url_of(IMAGE) == put(store, stage(tmp_path, b"image")) == f"file://{second}/{IMAGE}"
    assert (names(first), names(second)) == ([], [IMAGE])


def test_a_directory_without_enough_room_is_passed_over(first: Path, second: Path, tmp_path: Path) -> None:
    with tmpfs(first):
        store = of((first, 100), (second, 0))
        assert put(store, fully_written(tmp_path, 3 * MIB)) == f"file://{second}/{IMAGE}"
        assert put(store, fully_written(tmp_path, MIB), OTHER) == f"file://{first}/{OTHER}"
        assert (names(first), names(second)) == ([OTHER], [IMAGE])


def test_of_equal_weights_the_one_with_the_most_room_is_written(first: Path, second: Path, tmp_path: Path) -> None:
    with tmpfs(first):
        assert put(of((first, 7), (second, 7)), stage(tmp_path, b"image")) == f"file://{second}/{IMAGE}"


def test_each_directory_links_what_is_on_its_filesystem(first: Path, second: Path, tmp_path: Path) -> None:
    with tmpfs(first):
        store = of((first, 1), (second, 0))
        assert store.put(IMAGE, stage(tmp_path, b"image"), ignore, StopToken()).proof == "copy"
        assert store.put(OTHER, fully_written(tmp_path, 3 * MIB), ignore, StopToken()).proof == "link"


def test_holes_need_no_room(first: Path, second: Path, tmp_path: Path) -> None:
    staged = stage(tmp_path, b"image")
    os.truncate(staged.path, 64 * MIB)
    with tmpfs(first):
        store = of((first, 1), (second, 0))
        assert put(store, StagedFile(staged.path, 64 * MIB, 1)) == f"file://{first}/{IMAGE}"


def test_no_room_anywhere_is_a_full_store(first: Path, second: Path, tmp_path: Path) -> None:
    with tmpfs(first), tmpfs(second):
        store = of((first, 1), (second, 0))
        with pytest.raises(StoreFull):
            put(store, fully_written(tmp_path, 3 * MIB))
        assert (names(first), names(second)) == ([], [])


def test_a_filesystem_that_is_read_only_is_passed_over(first: Path, second: Path, tmp_path: Path) -> None:
    with tmpfs(first):
        store = of((first, 1), (second, 0))
        subprocess.run(["mount", "-o", "remount,ro", first], check=True)
        assert put(store, stage(tmp_path, b"image")) == f"file://{second}/{IMAGE}"
        store.check()
        with pytest.raises(StoreDenied):
            store.parts()[0].check()


# --- one image, one object ---------------------------------------------------------------------


def test_an_image_in_another_directory_is_already_stored(
    two: DirectoriesStore, first: Path, second: Path, tmp_path: Path
) -> None:
    (second / IMAGE).write_bytes(b"theirs")
    with pytest.raises(AlreadyStored):
        put(two, stage(tmp_path, b"image"))
    assert (names(first), (second / IMAGE).read_bytes()) == ([], b"theirs")


def test_an_image_that_appears_in_another_directory_is_already_stored(
    two: DirectoriesStore, first: Path, second: Path, tmp_path: Path
) -> None:
    class Late(StopToken):
        def check(self) -> None:
            (second / IMAGE).write_bytes(b"theirs") if list(first.glob("*.part")) else None

    with pytest.raises(AlreadyStored):
        two.put(IMAGE, stage(tmp_path, b"image"), ignore, Late())
    assert (names(first), (second / IMAGE).read_bytes()) == ([], b"theirs")


def test_an_object_is_found_by_the_url_of_any_directory(two: DirectoriesStore, first: Path, second: Path) -> None:
    """The journal has the URL of the first directory until the copy is complete, and for ever if the worker dies."""
    (second / IMAGE).write_bytes(b"image")
    url = f"file://{first}/{IMAGE}"
    assert (two.size(url), b"".join(two.read(url, 1)), two.local_file(url)) == (5, b"mage", second / IMAGE)
    two.delete(url)
    assert names(second) == []
    two.delete(url)
    with pytest.raises(ObjectMissing):
        two.size(url)


def test_what_an_attempt_left_in_another_directory_is_removed(
    two: DirectoriesStore, second: Path, tmp_path: Path
) -> None:
    for epoch in (1, 2):
        (second / f"{IMAGE}.{epoch}.part").write_bytes(b"half")
    put(two, stage(tmp_path, b"image", epoch=2))
    assert names(second) == [f"{IMAGE}.1.part"]
    assert two.discard_temporaries(IMAGE, 2) == 1
    assert names(second) == []


@pytest.mark.parametrize("kind", ["symbolic link", "fifo"])
def test_what_is_not_a_regular_file_is_no_object(
    two: DirectoriesStore, second: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "fifo":
        os.mkfifo(second / IMAGE)
    else:
        (second / IMAGE).symlink_to(tmp_path)
    for url in (two.url_of(IMAGE), f"file://{second}/{IMAGE}"):
        with pytest.raises(ObjectMissing):
            two.size(url)
        with pytest.raises(StoreDenied):
            two.delete(url)
    with pytest.raises(AlreadyStored):
        put(two, stage(tmp_path, b"image"))


# --- a directory that is away ------------------------------------------------------------------


def test_the_images_of_a_directory_that_is_away_are_unavailable_and_not_gone(
    first: Path, second: Path, tmp_path: Path
) -> None:
    store = of((first, 1), (second, 0))
    url = put(store, stage(tmp_path, b"image"))
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.size(url),
        lambda: store.read(url),
        lambda: store.local_file(url),
        lambda: store.delete(url),
        lambda: list(store.contents()),
        store.parts()[0].check,
    )
    with away(first):
        for use in uses:
            with pytest.raises(StoreUnavailable):
                use()
    assert store.size(url) == 5


def test_new_images_go_to_the_other_directories_meanwhile(first: Path, second: Path, tmp_path: Path) -> None:
    store = of((first, 1), (second, 0))
    with away(first):
        store.check()
        assert store.url_of(IMAGE) == put(store, stage(tmp_path, b"image")) == f"file://{second}/{IMAGE}"
        with pytest.raises(ObjectMissing):
            store.size(store.url_of(OTHER))
        assert store.discard_temporaries(OTHER, 9) == 0
    assert store.size(f"file://{second}/{IMAGE}") == 5


def test_nothing_is_written_while_all_are_away(
    two: DirectoriesStore, first: Path, second: Path, tmp_path: Path
) -> None:
    with away(first):
        shutil.rmtree(second)
        with pytest.raises(StoreUnavailable, match="not mounted"):
            put(two, stage(tmp_path, b"image"))
        assert not second.exists()


# --- what is shown, and the settings -----------------------------------------------------------


def test_each_directory_has_its_own_mark(two: DirectoriesStore, first: Path, second: Path) -> None:
    assert [read_mark(each) for each in (first, second)] == [f"store shelf of catalogue {CATALOGUE}"] * 2
    (second / MARK).write_text("store quick of catalogue 0ther")
    with pytest.raises(StoreUnavailable, match="marked as that of another"):
        two.parts()[1].check()
    assert two.url_of(IMAGE) == f"file://{first}/{IMAGE}"


def test_its_contents_have_the_paths_of_their_directories(two: DirectoriesStore, first: Path, second: Path) -> None:
    for path in (first / IMAGE, second / IMAGE, second / "notes"):
        path.touch()
    assert {(each.name, each.url) for each in two.contents()} == {
        (str(path), f"file://{path}") for path in (first / IMAGE, second / IMAGE, second / "notes")
    }


def test_its_room_counts_each_filesystem_once(two: DirectoriesStore, first: Path, second: Path) -> None:
    room, free = two.room(), shutil.disk_usage(first).free
    assert room.where == f"{first}, {second}"
    assert abs(room.free_bytes - free) < free // 2


def test_its_properties_and_its_remedy_name_the_directories(two: DirectoriesStore, first: Path, second: Path) -> None:
    assert two.public_properties()["data_dir"] == f"{first},{second}"
    assert f"{first}, {second}" in two.remedy()


def test_the_settings_choose_the_driver(tmp_path: Path) -> None:
    one = file_store("shelf", FileStoreSettings(dir=tmp_path), CATALOGUE)
    several = file_store("shelf", FileStoreSettings(dirs=(f"{tmp_path}/a", f"{tmp_path}/b:9")), CATALOGUE)
    assert isinstance(one, FileStore)
    assert isinstance(several, DirectoriesStore)
    assert several.url_of(IMAGE) == f"file://{tmp_path}/b/{IMAGE}"


@pytest.mark.parametrize(
    ("file_mode", "before", "after"),
    [(0o640, 0o700, 0o710), (0o644, 0o700, 0o711), (0o600, 0o700, 0o700), (0o644, 0o755, 0o755), (0o604, 0o700, 0o701)],
)
def test_those_who_may_read_the_files_may_enter_the_directory(
    file_mode: int, before: int, after: int, first: Path
) -> None:
    first.mkdir(before)
    first.chmod(before)
    of((first, 0), file_mode=file_mode)
    assert stat.S_IMODE(first.stat().st_mode) == after
