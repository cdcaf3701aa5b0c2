from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from transship.host.doorbell import Doorbell, ring
from transship.host.local_sockets import bind_socket, connect_socket


def deep(directory: Path) -> Path:
    """Return a path that no socket address has room for."""
    longest = directory / ("d" * 100) / ("e" * 100)
    longest.mkdir(parents=True)
    return longest / "bell.sock"


def test_a_socket_is_closed_to_other_accounts_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with bind_socket(tmp_path / "one.sock", socket.SOCK_STREAM):
            assert stat.S_IMODE((tmp_path / "one.sock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_the_newest_listener_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    with bind_socket(path, socket.SOCK_STREAM) as older, bind_socket(path, socket.SOCK_STREAM) as newer:
        older.listen()
        newer.listen()
        with connect_socket(path, socket.SOCK_STREAM, 60.0):
            newer.settimeout(60.0)
            newer.accept()[0].close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.sock"]


def test_nobody_behind_a_socket_is_an_error_at_once(tmp_path: Path) -> None:
    bind_socket(tmp_path / "one.sock", socket.SOCK_STREAM).close()
    for name in ("one.sock", "two.sock"):
        with pytest.raises(OSError, match=r"refused|No such file"):
            connect_socket(tmp_path / name, socket.SOCK_STREAM, 60.0)


def test_a_directory_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bind_socket(tmp_path / "missing" / "one.sock", socket.SOCK_DGRAM)


def test_the_doorbell_is_heard_however_deep_the_home_directory_lies(tmp_path: Path) -> None:
    path = deep(tmp_path)
    bell = Doorbell(path)
    assert ring(path)
    assert bell.wait(60.0)
    bell.close()


def test_many_rings_are_one(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "bell.sock")
    assert all(ring(tmp_path / "bell.sock") for _ in range(2000))
    assert bell.wait(60.0)
    assert not bell.wait(0)
    bell.close()


def test_ringing_where_nobody_listens_does_nothing(tmp_path: Path) -> None:
    assert not ring(tmp_path / "bell.sock")
    Doorbell(tmp_path / "bell.sock").close()
    assert not ring(tmp_path / "bell.sock")
