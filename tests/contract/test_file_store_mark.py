"""The mark of a file store's directory: what is adopted, and what is not the prepared directory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.file_stores import (
    CATALOGUE,
    IMAGE,
    names,
    prepared,
    put,
    stage,
    tmpfs,
)
from transship.domain.errors import (
    StoreUnavailable,
)
from transship.host.directories import MARK
from transship.stores.file import FileStore


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
