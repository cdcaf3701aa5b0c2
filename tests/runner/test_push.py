"""The push, keeper's and runner's side together over a real socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.fakes.shelf import Shelf
from transship.domain.push import LONGEST_LINE_BYTES, Granted, Reserve, decode, encode
from transship.host.local_sockets import connect_socket
from transship.keeper.push import LocalRunner

RUN = {"id": "a", "state": {"type": "PENDING"}, "parameters": {"uri": "http://h/x" * 20_000}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runner.sock"


def test_a_run_gets_the_slot_that_was_kept_for_it(path: Path) -> None:
    with Shelf(path) as shelf:
        slot = LocalRunner(path).reserve("default")
        assert slot is not None
        with slot:
            assert slot.push(RUN)
        assert shelf.changed.get(timeout=60) == "run"
    assert (shelf.asked, shelf.runs, shelf.left) == (["default"], [RUN], 0)


def test_a_slot_that_is_not_used_is_given_back_when_the_keeper_goes(path: Path) -> None:
    with Shelf(path) as shelf:
        with LocalRunner(path).reserve("default") or pytest.fail("no slot"):
            assert shelf.left == 0
        assert shelf.changed.get(timeout=60) == "free"
    assert (shelf.runs, shelf.left) == ([], 1)


def test_without_a_free_slot_nothing_is_reserved(path: Path) -> None:
    with Shelf(path, slots=0) as shelf:
        assert LocalRunner(path).reserve("host-a") is None
    assert shelf.asked == ["host-a"]


def test_without_a_runner_nothing_is_reserved(path: Path) -> None:
    assert LocalRunner(path).reserve("default") is None
    with Shelf(path):
        pass
    assert LocalRunner(path).reserve("default") is None


def test_a_runner_that_says_nothing_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.keeper.push.PATIENCE_S", 0.5)
    from transship.host.local_sockets import bind_socket  # noqa: PLC0415

    with bind_socket(path, socket.SOCK_STREAM) as silent:
        silent.listen()
        assert LocalRunner(path).reserve("default") is None


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\n", encode(Granted()), b"x" * (LONGEST_LINE_BYTES + 1024), b""],
    ids=["no JSON", "another message", "an endless line", "nothing"],
)
def test_whoever_talks_nonsense_gets_no_slot(path: Path, sent: bytes) -> None:
    with Shelf(path) as shelf:
        with connect_socket(path, socket.SOCK_STREAM, 60.0) as stranger:
            try:
                stranger.sendall(sent)
                stranger.shutdown(socket.SHUT_WR)
                assert stranger.recv(100) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert (shelf.asked, shelf.left) == ([], 1)


def test_a_slot_is_given_back_when_something_else_than_a_run_comes(path: Path) -> None:
    with Shelf(path) as shelf, connect_socket(path, socket.SOCK_STREAM, 60.0) as stranger:
        stranger.sendall(encode(Reserve("default")))
        assert decode(stranger.recv(100)) == Granted()
        stranger.sendall(b"nonsense\n")
        assert shelf.changed.get(timeout=60) == "free"
    assert shelf.left == 1
