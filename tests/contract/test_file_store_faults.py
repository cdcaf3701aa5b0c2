"""The operating system's errors, as a file store reports them."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.settings import FileStoreSettings
from tests.fakes.file_stores import (
    IMAGE,
    MIB,
    as_nobody,
    ignore,
    names,
    prepared,
    put,
    shared_elsewhere,
    stage,
    tmpfs,
)
from transship.domain.errors import (
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TransferFailed,
)
from transship.domain.stop import StopToken
from transship.stores.file import FileStore
from transship.stores_in_force import explained


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


@pytest.mark.spec("ST-018")
@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ESTALE, StoreUnavailable), (errno.EIO, StoreUnavailable), (errno.EACCES, StoreDenied)],
    ids=["handle of a removed export", "I/O error", "root is squashed"],
)
def test_errors_of_a_network_filesystem_are_the_stores_errors(
    number: int,
    expected: type[TransferFailed],
    store: FileStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = store.url_of(IMAGE)
    put(store, stage(tmp_path, b"image"))
    staged = stage(tmp_path, b"image", epoch=2)

    def fail(*_arguments: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    for name, use in (
        ("lstat", lambda: store.size(url)),
        ("pread", lambda: store.read(url)),
        ("listdir", lambda: list(store.contents())),
        ("statvfs", store.check),
        ("fsync", lambda: store.put(IMAGE[:-1] + "3", staged, ignore, StopToken())),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(expected):
                use()
    assert store.size(url) == 5
    assert names(tmp_path / "images") == [IMAGE]
