"""Components forked by the fork server are the supervisor's own children, as if it had started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.supervised import REPOSITORY, supervised, told
from tests.fakes.system import until
from transship.host.processes import start_time

pytestmark = pytest.mark.faults

MODULE = "tests.fakes.forkable"

forked = partial(supervised, fork_server=True)


def forkable(name: str, *arguments: str, imports: tuple[str, ...] = (MODULE,), **fields: object) -> dict[str, object]:
    argv = [sys.executable, "-P", "-m", MODULE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OF_COMPONENT": "its own"}
    return {
        "name": name,
        "argv": argv,
        "module": MODULE,
        "arguments": arguments,
        "imports": imports,
        "environment": environment,
        # It is up when it has said so.
        **({"ready_text": "alive", "settle_s": 60.0} if "alive" in arguments else {}),
        **fields,
    }


def said(process: subprocess.Popen[str], text: str) -> str:
    """Return what follows a text in the next line that has it."""
    return told(process, text).partition(text)[2].strip()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_forked_component_is_what_a_started_one_would_be(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with forked(home, forkable("one", "--say", "alive")) as process:
        assert said(process, "environment") == "its own None"
        assert said(process, "session") == f"True in {home}"
        assert said(process, "signals") == "True"
        parent = int(said(process, "imported True parent"))
        pid = int(said(process, "alive"))
        assert parent_of(pid) == parent
        assert "fork_server" in command_of(pid)
        assert Path(f"/proc/{pid}/comm").read_text().strip() == "one"
        assert Path(f"/proc/{pid}/fd/0").resolve() == Path(os.devnull)
        said(process, "ready after")
        # All is up, and the fork server has gone.
        until(lambda: sorted(children_of(parent)) == [pid], what="the component alone")
        process.terminate()
        process.wait(60)
        assert start_time(pid) is None


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_forked_component_that_dies_is_told_and_started_again_in_a_fresh_interpreter(tmp_path: Path) -> None:
    with forked(tmp_path / "home", forkable("one", "--say", "alive")) as process:
        pid = int(said(process, "alive"))
        said(process, "ready after")
        os.kill(pid, signal.SIGKILL)
        said(process, "one ended (killed by SIGKILL)")
        again = int(said(process, "alive"))
        assert "fork_server" not in command_of(again)


def test_a_forked_component_that_runs_once_tells_how_it_ended(tmp_path: Path) -> None:
    failing = forkable("one", "--exit", "3", once=True)
    with forked(tmp_path / "home", failing) as process:
        assert "one ended (exit status 3)" in (process.stdout.read() if process.stdout else "")
    assert process.returncode == 1
    with forked(tmp_path / "home", forkable("one", "--exit", "0", once=True)) as process:
        said(process, "ready after")


def test_a_forked_component_serves_the_socket_that_it_inherits(tmp_path: Path) -> None:
    port = free_port()
    component = forkable("one", "--say", "alive", listen=("127.0.0.1", port))
    with forked(tmp_path / "home", component) as process:
        said(process, "alive")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            assert client.recv(6) == b"forked"


@pytest.mark.parametrize("broken", ["no.such.module", "tests.fakes.thread_at_import"], ids=["missing", "with a thread"])
def test_what_cannot_be_imported_or_forked_is_started(tmp_path: Path, broken: str) -> None:
    component = forkable("one", "--say", "alive", imports=(broken,))
    with forked(tmp_path / "home", component) as process:
        pid = int(said(process, "alive"))
        assert ("fork_server" in command_of(pid)) is (broken == "no.such.module")
        said(process, "ready after")


@pytest.mark.parametrize(("uses", "handlers"), [(True, "[1, 1] False"), (False, "[0, 0] True")])
def test_only_a_component_that_uses_prefect_has_its_loggers(tmp_path: Path, uses: bool, handlers: str) -> None:
    component = forkable("one", "--say", "alive", imports=(MODULE, "prefect"))
    if uses:
        component["environment"] = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(tmp_path)}
    else:
        environment = {name: text for name, text in os.environ.items() if name != "PREFECT_HOME"}
        component["environment"] = {**environment, "PYTHONPATH": str(REPOSITORY)}
    with forked(tmp_path / "home", component) as process:
        assert said(process, "handlers") == handlers


def test_nothing_forked_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with forked(tmp_path / "home", forkable("one", "--say", "alive")) as process:
        pid = int(said(process, "alive"))
        os.kill(parent_of(pid), signal.SIGKILL)
        until(lambda: start_time(pid) is None, what="the end of the component")


def test_the_end_of_the_fork_server_is_the_end_of_nothing_else(tmp_path: Path) -> None:
    first = forkable("first", "--say", "alive")
    later = forkable("later", "--say", "tardy", stage=1, ready_text="tardy", settle_s=60.0)
    waiting = {"name": "waits", "argv": ["sleep", "1000"], "settle_s": 4.0, "environment": dict(os.environ)}
    with forked(tmp_path / "home", first, waiting, later) as process:
        pid = int(said(process, "alive"))
        servers = [one for one in children_of(parent_of(pid)) if one != pid and "fork_server" in command_of(one)]
        assert len(servers) == 1
        os.kill(servers[0], signal.SIGKILL)
        assert "fork_server" not in command_of(int(said(process, "tardy")))
        said(process, "ready after")
        assert start_time(pid) is not None
