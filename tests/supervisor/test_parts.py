from __future__ import annotations

import asyncio
import http.server
import os
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from transship.host.processes import children, describe_exit, start_time
from transship.supervisor.component import Backoff, Condition
from transship.supervisor.listeners import answers
from transship.supervisor.log_file import RotatingFile
from transship.supervisor.output import Output
from transship.supervisor.status import ComponentStatus, Phase, SupervisorStatus, read_status, write_status


@pytest.mark.parametrize(("short_lives", "wait_s"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (500, 30)])
def test_waits_double_up_to_a_bound(short_lives: int, wait_s: float) -> None:
    assert Backoff().wait_s(short_lives) == wait_s


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-63, "killed by signal 63")],
)
def test_an_exit_status_is_told_in_words(status: int, text: str) -> None:
    assert describe_exit(status) == text


def test_start_time_is_none_for_a_process_that_has_ended() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in children(os.getpid())
    assert start_time(pid) is None
    os.waitpid(pid, 0)
    assert pid not in children(os.getpid())


def test_a_full_log_moves_up_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RotatingFile(tmp_path / "api.log", max_bytes=10, backups=2)
    for line in ("first", "second", "third", "fourth"):
        log.write_line(line)
    log.close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"api.log": "fourth\n", "api.log.1": "third\n", "api.log.2": "second\n"}


def test_a_log_without_backups_is_emptied(tmp_path: Path) -> None:
    log = RotatingFile(tmp_path / "api.log", max_bytes=10, backups=0)
    for line in ("first", "second"):
        log.write_line(line)
    log.close()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"api.log": "second\n"}


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for line in ("one", "two"):
        log = RotatingFile(tmp_path / "api.log", max_bytes=1000, backups=1)
        log.write_line(line)
        log.close()
    assert (tmp_path / "api.log").read_text() == "one\ntwo\n"


def test_lines_cannot_move_the_readers_cursor(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    output = Output(tmp_path, 1000, 0, lambda component, line: shown.append((component, line)))
    output.line("worker", "\x1b[2Jclean\x1b]0;title\x07 \x1b[31mred\x1b[0m\r\n")
    output.line("worker", "\n")
    output.close()
    assert shown == [("worker", "clean]0;title red")]


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/up": HTTPStatus.OK, "/down": HTTPStatus.SERVICE_UNAVAILABLE}.get(self.path)
        if status is None:
            self.wfile.write(b"no HTTP\r\n")
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        pass


@pytest.fixture
def health_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "healthy"), [("/up", True), ("/down", False), ("/nonsense", False)])
def test_only_status_200_is_healthy(health_server: str, path: str, healthy: bool) -> None:
    assert asyncio.run(answers(health_server + path, 60)) is healthy


def test_nobody_listening_is_not_healthy() -> None:
    assert not asyncio.run(answers("http://127.0.0.1:9/", 60))


def test_a_status_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    component = ComponentStatus("api", Condition.UP, 7, "2026-01-01T00:00:00+00:00", 2, "exit status 1", "/log/api.log")
    status = SupervisorStatus(Phase.READY, 5, "2026-01-01T00:00:00+00:00", (component,))
    write_status(tmp_path / "status.json", status)
    assert read_status(tmp_path / "status.json") == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"components": [{}]}', '{"phase": "odd", "components": []}'])
def test_a_status_file_that_is_none_is_no_status(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path / "status.json") is None
