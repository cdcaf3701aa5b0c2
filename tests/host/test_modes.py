"""Every documented mode is set, whatever the process's umask."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from config.secrets import PREFECT_AUTH_FILE, PREFECT_KEY_FILE, create_secret
from tests.fakes.images import settings_in
from tests.fakes.umasks import umask
from transship.catalog.engine import Catalog
from transship.domain.staged import StagedFile
from transship.domain.stop import StopToken
from transship.host.directories import MARK, make_directory
from transship.host.local_sockets import bind_socket
from transship.host.runner_status import RunnerStatus, write_runner_status
from transship.staging.area import StagingArea
from transship.stores.file import FileStore
from transship.supervisor.home import HomeLock, first_start, lock_path, log_dir, prefect_dir

IMAGE = "3f2a1c9e-0000-4000-8000-000000000001"
RUNNER = RunnerStatus(1, 1, "serving", "warm", "", 4, 0, 0, (), ())
UMASKS = [pytest.param(mask, id=f"{mask:03o}") for mask in (0o000, 0o022, 0o077)]


def modes(*paths: Path) -> dict[str, str]:
    return {path.name: f"{stat.S_IMODE(path.stat().st_mode):04o}" for path in paths}


@pytest.mark.parametrize("mask", UMASKS)
def test_a_stores_directories_and_files(tmp_path: Path, mask: int) -> None:
    staged = tmp_path / "staged"
    staged.write_bytes(b"image")
    directory = tmp_path / "srv" / "images"
    with umask(mask):
        store = FileStore("shelf", directory, 0o640)
        store.check()
        store.put(IMAGE, StagedFile(staged, 5, 1), lambda _done: None, StopToken())
    assert modes(directory.parent, directory, directory / IMAGE) == {"srv": "0750", "images": "0750", IMAGE: "0640"}


@pytest.mark.parametrize("mask", UMASKS)
def test_the_home_directory_and_what_lies_in_it(tmp_path: Path, mask: int) -> None:
    home = tmp_path / "state" / "home"
    settings = settings_in(home)
    with umask(mask):
        first_start(settings)
        HomeLock.take(settings).release()
        bind_socket(settings.run_dir / "one.sock", socket.SOCK_DGRAM).close()
    closed = (home.parent, home, log_dir(settings), settings.run_dir, prefect_dir(settings))
    assert set(modes(*closed).values()) == {"0700"}
    secret = (home / PREFECT_AUTH_FILE, home / PREFECT_KEY_FILE, lock_path(settings), settings.run_dir / "one.sock")
    assert set(modes(*secret).values()) == {"0600"}


@pytest.mark.parametrize("mask", UMASKS)
def test_the_catalogue_and_its_key(tmp_path: Path, mask: int) -> None:
    url = f"sqlite:///{tmp_path / 'srv' / 'catalog.db'}"
    with umask(mask), closing(Catalog.open(settings_in(tmp_path / "home", database={"url": url}))):
        made = sorted((tmp_path / "srv").iterdir())
        assert set(modes(tmp_path / "srv").values()) == {"0700"}
        assert {"catalog.db", "catalog.key"} < {path.name for path in made}
        assert set(modes(*made).values()) == {"0600"}


@pytest.mark.parametrize("mask", UMASKS)
def test_staging_and_what_is_written_there(tmp_path: Path, mask: int) -> None:
    area = StagingArea(tmp_path / "srv" / "staging", "here", 0)
    with umask(mask):
        area.prepare("catalogue")
        area.write_count(area.count())
        with area.writing("one") as path:
            assert modes(path) == {"one.part": "0600"}
    assert set(modes(area.directory.parent, area.directory).values()) == {"0700"}
    assert set(modes(area.directory / MARK, area.part("one")).values()) == {"0600"}


@pytest.mark.parametrize("mask", UMASKS)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: create_secret(path, lambda: "secret"), id="secret"),
        pytest.param(lambda path: write_runner_status(path, RUNNER), id="runner's status"),
    ],
)
def test_files_that_only_we_read(tmp_path: Path, mask: int, write: Callable[[Path], object]) -> None:
    with umask(mask):
        write(tmp_path / "file")
    assert modes(tmp_path / "file") == {"file": "0600"}


@pytest.mark.parametrize("mask", UMASKS)
def test_directories_that_exist_keep_their_mode(tmp_path: Path, mask: int) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o751)
    with umask(mask):
        make_directory(tmp_path / "there" / "new", 0o750)
        make_directory(tmp_path / "there", 0o750)
    assert modes(tmp_path / "there", tmp_path / "there" / "new") == {"there": "0751", "new": "0750"}


def test_a_group_that_the_parent_hands_down_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o2750)
    with umask(0o077):
        make_directory(tmp_path / "new", 0o750)
    assert modes(tmp_path / "new") == {"new": "2750"}


def test_something_else_in_the_place_of_a_directory_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            make_directory(path, 0o750)
