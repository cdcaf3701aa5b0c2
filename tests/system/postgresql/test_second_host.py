"""Two hosts on one catalogue: the product on the first, only a worker on the second, as in docs/operations.md."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from config.loading import load_settings
from config.secrets import prefect_auth_string
from tests.fakes.ending import end
from tests.fakes.postgres import postgres_binaries
from tests.fakes.system import Gate, System, until
from tests.fakes.together import at_once
from tests.fakes.web_server import WebServer
from tests.system.postgresql.conftest import FIRST
from transship.catalog.engine import Catalog
from transship.catalog.schema import LEASES
from transship.host.processes import descendants, start_time
from transship.host.runner_status import RUNNER_READY, RunnerStatus, read_runner_status, runner_status_path

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        postgres_binaries() is None,
        reason="PostgreSQL's server programs are not installed (apt-get install postgresql)",
    ),
]

BODY: Final = os.urandom(1 << 20)
SECOND = "host2"


class SecondHost:
    """`transship worker` in a separate home directory.

    Args:
        home: directory that does not exist yet.
        first: the host whose services it works for.
        copied: the settings file that both hosts have.
    """

    def __init__(self, home: Path, first: System, copied: Path) -> None:
        self.home, self.log = home, home.with_suffix(".log")
        inherited = {name: value for name, value in first.environment.items() if not name.startswith("TRANSSHIP_")}
        self.environment = {
            **inherited,
            "TRANSSHIP_CONFIG": str(copied),
            "TRANSSHIP_HOME": str(home),
            "TRANSSHIP_HOST_NAME": SECOND,
            "TRANSSHIP_PREFECT__API_URL": first.settings.prefect_api_url,
            "TRANSSHIP_PREFECT__AUTH_STRING": prefect_auth_string(first.settings),
            "TRANSSHIP_API__PUBLIC_ENDPOINT": first.settings.api_url,
            # No API runs there, so that nobody may mind that its port is taken.
            "TRANSSHIP_API__PORT": str(first.settings.api.port),
        }
        self.settings = load_settings(environ=self.environment).settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> RunnerStatus | None:
        """The status of its runner."""
        return read_runner_status(runner_status_path(self.settings))

    @property
    def pid(self) -> int:
        """Its worker's process."""
        assert self.process is not None
        return self.process.pid

    def up(self) -> None:
        """Start the worker, unless it runs, and wait until it takes runs."""
        if self.process is not None and self.process.poll() is None:
            return
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "transship.cli", "worker"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        until(lambda: RUNNER_READY in self.said(), 540.0, "the second host's worker")

    def down(self) -> int:
        """Stop the worker as a service manager does; return its exit status."""
        return end(self.process, 180.0)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this host."""
        return subprocess.run(
            [sys.executable, "-m", "transship.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=540.0,
            check=False,
        )

    def staged(self) -> list[str]:
        """Return the names of the files in its staging."""
        found = self.settings.staging_dir.iterdir() if self.settings.staging_dir.exists() else ()
        return sorted(path.name for path in found if not path.name.startswith(".transship"))

    def said(self) -> str:
        """Return its worker's log."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Hosts:
    """Both hosts; each carries one import at a time."""

    first: System
    second: SecondHost

    def carriers(self) -> dict[str, str]:
        """Return the host that holds the lease of each image that is being imported."""
        wanted = select(LEASES.c.image_id, LEASES.c.owner).where(LEASES.c.state == "held")
        with closing(Catalog.open(self.first.settings)) as catalog, catalog.read() as connection:
            return {str(image): str(owner).partition(" pid ")[0] for image, owner in connection.execute(wanted)}

    def said(self) -> str:
        """Return the end of all logs."""
        return f"{self.first.logs()}\n--- second host\n{self.second.said()[-6000:]}"


@pytest.fixture(scope="module")
def both(system: System, shared_file: Path) -> Iterator[Hosts]:
    second = SecondHost(system.home.with_name("second"), system, shared_file)
    try:
        yield Hosts(system, second)
    finally:
        second.down()


@pytest.fixture
def hosts(both: Hosts) -> Hosts:
    """Both hosts, up."""
    both.second.up()
    return both


class Downloads:
    """Two imports from sources that stop half way: each host has one of them.

    Attributes:
        images: the image of each host's import, by host.
    """

    def __init__(self, hosts: Hosts, source: WebServer, name: str) -> None:
        self.hosts = hosts
        # What is fetched a second time, after a death, stops half way once more.
        self._gates = {number: (Gate(BODY), Gate(BODY)) for number in (1, 2)}
        asked = {}
        for number, gates in self._gates.items():
            image_id = hosts.first.create(name=f"{name} {number}")
            uri = source.on(f"/{name}-{number}.img", *(gate.behaviour() for gate in gates))
            assert hosts.first.ask(image_id, uri).status_code == 202
            asked[image_id] = number
        for first_time, _ in self._gates.values():
            assert first_time.reached.wait(180), hosts.said()
        carriers = hosts.carriers()
        assert sorted(carriers.values()) == [FIRST, SECOND], hosts.said()
        self.images = {carriers[image_id]: image_id for image_id in asked}
        self._number = {host: asked[image_id] for host, image_id in self.images.items()}

    def open(self, host: str) -> None:
        """Let the data flow that a host downloads."""
        self._gates[self._number[host]][0].open()

    def again(self, host: str) -> Gate:
        """Return where the import that a host had stops when it fetches its data for a second time."""
        return self._gates[self._number[host]][1]

    def assert_active(self, host: str) -> None:
        """Wait for the import that a host had."""
        image_id = self.images[host]
        task = self.hosts.first.ended(image_id, 300.0)
        assert task["status"] == "success", (task, self.hosts.said())
        shared = self.hosts.first.settings.all_stores["shared"].dir
        assert (shared / image_id).read_bytes() == BODY

    def open_all(self) -> None:
        """Let everything flow."""
        for gates in self._gates.values():
            for gate in gates:
                gate.open()


@pytest.fixture
def downloads(hosts: Hosts, source: WebServer, request: pytest.FixtureRequest) -> Iterator[Downloads]:
    made = Downloads(hosts, source, request.node.name)
    yield made
    made.open_all()


def test_runs_of_the_default_queue_are_carried_by_either_host(hosts: Hosts, downloads: Downloads) -> None:
    assert set(downloads.images) == {FIRST, SECOND}
    until(lambda: hosts.second.status and hosts.second.status.carried == 1, 180.0, "a second host that says so")
    downloads.open_all()
    for host in downloads.images:
        downloads.assert_active(host)
    until(lambda: (hosts.first.staged(), hosts.second.staged()) == ([], []), 180.0, "empty staging")


def test_a_stopped_worker_lets_its_import_end_and_takes_no_other(
    hosts: Hosts, downloads: Downloads, source: WebServer
) -> None:
    second = hosts.second
    os.kill(second.pid, signal.SIGTERM)
    until(lambda: second.status and second.status.phase == "draining", 180.0, "a worker that drains")
    later = hosts.first.create(name="later")
    assert hosts.first.ask(later, source.serve("/later.img", BODY)).status_code == 202
    downloads.open(SECOND)
    downloads.assert_active(SECOND)
    assert second.process is not None
    assert second.process.wait(180) == 0, second.said()
    assert hosts.first.task(later)["status"] not in ("success", "failure")
    downloads.open(FIRST)
    downloads.assert_active(FIRST)
    assert hosts.first.ended(later)["status"] == "success"
    # Neither of them was begun twice.
    for image_id in downloads.images.values():
        assert hosts.first.flow_run(image_id)["run_count"] == 1


def test_a_run_in_the_queue_of_a_host_waits_for_that_host(both: Hosts, source: WebServer) -> None:
    first, second = both.first, both.second
    if second.process is None:
        # It makes its queue at its first start.
        second.up()
    assert second.down() == 0
    run_id = _begin(first, f"host-{SECOND}", source.serve("/own-queue.img", BODY))
    # The first host has time for others, not for this one.
    assert first.import_from(source.serve("/others.img", BODY), name="others")["status"] == "active"
    assert first.prefect("GET", f"/flow_runs/{run_id}")["state"]["type"] == "SCHEDULED"
    second.up()
    state = until(lambda: _final_state(first, run_id), 180.0, f"end of run {run_id}")
    assert (state["type"], state["name"]) == ("COMPLETED", "Imported"), (state, both.said())
    assert second.status is not None
    assert sum(executor.runs for executor in second.status.executors) >= 1


def test_a_block_edited_on_both_hosts_at_once_has_one_of_the_two_edits(hosts: Hosts, source: WebServer) -> None:
    first = hosts.first
    (document,) = first.prefect("POST", "/block_documents/filter", {"include_secrets": True})
    where = f"/block_documents/{document['id']}"
    edits = [{**document["data"], "weight": weight, "file_mode": mode} for weight, mode in ((7, "0600"), (9, "0660"))]

    at_once(*(partial(first.prefect, "PATCH", where, {"data": edit}) for edit in edits))

    won = first.prefect("GET", where)["data"]
    assert won in edits
    until(lambda: _shown_weight(first) == won["weight"], 180.0, "the edit in the API")
    for queue in (f"host-{FIRST}", f"host-{SECOND}"):
        uri = source.serve(f"/edited-{queue}.img", BODY)
        run_id = _begin(first, queue, uri)
        state = until(lambda run_id=run_id: _final_state(first, run_id), 180.0, f"end of run {run_id}")
        assert state["name"] == "Imported", (state, hosts.said())
    stored = first.settings.all_stores["shared"].dir
    newest = sorted(stored.iterdir(), key=lambda path: path.stat().st_mtime_ns)[-2:]
    assert [oct(path.stat().st_mode & 0o777) for path in newest] == [f"0o{won['file_mode'][1:]}"] * 2
    first.prefect("PATCH", where, {"data": document["data"]})


def _shown_weight(system: System) -> int:
    shown = system.api("GET", "/v2/info/stores/detail").json()["stores"]
    return next(int(store["weight"]) for store in shown if store["id"] == "shared")


def _begin(system: System, queue: str, uri: str) -> str:
    """Begin an import as an operator does, in a queue; return the flow run."""
    deployment = system.prefect("GET", "/deployments/name/web-download/web-download")["id"]
    body = {"parameters": {"uri": uri, "name": queue}, "work_queue_name": queue}
    return str(system.prefect("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])


def test_an_import_whose_host_dies_is_finished_by_the_other(hosts: Hosts, downloads: Downloads) -> None:
    second = hosts.second
    everything = [second.pid, *descendants(second.pid)]
    image_id = downloads.images[SECOND]
    os.kill(second.pid, signal.SIGKILL)
    assert second.process is not None
    second.process.wait()
    downloads.open(FIRST)
    downloads.assert_active(FIRST)
    assert downloads.again(SECOND).reached.wait(180), hosts.said()
    assert hosts.carriers()[image_id] == FIRST
    downloads.open_all()
    downloads.assert_active(SECOND)
    until(lambda: not [pid for pid in everything if start_time(pid) is not None], 180.0, f"end of {everything}")
    # What the dead one had staged is removed as soon as its host is back.
    second.up()
    until(lambda: second.staged() == [], 180.0, "empty staging of the second host")


def test_status_and_doctor_speak_of_the_host_that_they_are_called_on(hosts: Hosts) -> None:
    for command, said in (
        (hosts.second.command, f"worker {hosts.second.pid}: serving"),
        (hosts.first.command, f"supervisor {hosts.first.pids()['supervisor']}: ready"),
    ):
        shown = command("status")
        assert (shown.returncode, said in shown.stdout) == (0, True), shown
        found = command("doctor")
        assert found.returncode == 0, found
        assert re.search(rf"images api +{re.escape(hosts.first.settings.api_url)}\n", found.stdout), found
    assert f"queues host-{SECOND}, default" in hosts.second.command("status").stdout


def _final_state(system: System, run_id: str) -> dict[str, Any] | None:
    with suppress(OSError):
        state: dict[str, Any] = system.prefect("GET", f"/flow_runs/{run_id}")["state"]
        return state if state["type"] in ("CRASHED", "FAILED", "COMPLETED", "CANCELLED") else None
    return None
