"""Processes that hang during an import: it continues in another process, and a late one reports nothing.

Leases last for an hour here, so that no process is given up for being slow. A test expires the lease of one that it
has stopped.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from sqlalchemy import update

from tests.fakes.system import Gate, System, until
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog
from transship.catalog.schema import LEASES
from transship.catalog.types import in_seconds
from transship.domain.errors import CatalogUnavailable
from transship.host.processes import descendants, is_stopped, start_time
from transship.host.runner_status import read_runner_status, runner_status_path

pytestmark = [pytest.mark.real, pytest.mark.faults]

BODY = os.urandom(1 << 20)
SILENT = "attempt ended without a state"


@pytest.fixture(scope="module")
def single(source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that carries one import at a time: a slot that is not freed holds up everything."""
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "lease.ttl_s": 3600.0,
        "lease.renew_s": 1.0,
        "lease.crash_retries": 9,
        "prefect.worker_limit": 1,
    }
    with System(tmp_path_factory.mktemp("stopped"), options) as running:
        yield running


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(BODY)
    yield made
    made.open()


class Import:
    """An import that stands in its download.

    Attributes:
        pid: the process that carries it.
    """

    def __init__(self, system: System, uri: str, gate: Gate, *, cold: bool = False) -> None:
        self.system, self.name = system, uri.rsplit("/", maxsplit=1)[1]
        deployment = system.prefect("GET", "/deployments/name/web-download/web-download")["id"]
        parameters = {"uri": uri, "stores": ["local"], "disk_format": "raw", "container_format": "bare"}
        asked: dict[str, Any] = {"parameters": parameters}
        if cold:
            # Only an interpreter of its own can give a run its own environment.
            asked["job_variables"] = {"env": {"ODD": "1"}}
        self.run_id = str(system.prefect("POST", f"/deployments/{deployment}/create_flow_run", asked)["id"])
        assert gate.reached.wait(300), system.logs()
        (self.pid,) = until(system.carriers, 180.0, "the process of the import")

    @property
    def states(self) -> list[str]:
        found = self.system.prefect("GET", f"/flow_run_states/?flow_run_id={self.run_id}")
        return [state["name"] for state in sorted(found, key=lambda state: str(state["timestamp"]))]

    def assert_ends_well(self) -> None:
        """Another process imports it, and no other process has reported anything about its run."""
        until(lambda: self.states[-1] == "Imported", 300.0, f"the end of the import\n{self.system.logs()}")
        (image,) = self.system.api("GET", f"/v2/images?name={self.name}").json()["images"]
        assert (image["status"], image["os_hash_value"]) == ("active", hashlib.sha512(BODY).hexdigest())
        assert self.states.count("AwaitingRetry") == 1
        assert not {"Superseded", "Failed", "Crashed"} & set(self.states)


def freeze(system: System, pids: Iterable[int]) -> None:
    """Stop processes, and let the leases of the imports that they carry expire.

    A signal is only noted when it is sent: on a busy machine a process that is stopped goes on for a while.
    """
    frozen = list(pids)
    while True:
        try:
            with closing(Catalog.open(system.settings)) as catalog, catalog.write() as connection:
                # SQLite has one writer, so nobody is stopped in the middle of a transaction.
                strike(frozen, signal.SIGSTOP)
                until(lambda: all(is_stopped(pid) or start_time(pid) is None for pid in frozen), 180.0, "standstill")
                held = LEASES.c.state == "held"
                connection.execute(update(LEASES).where(held).values(expires_at=in_seconds(-1.0)))
                return
        except CatalogUnavailable:
            # On PostgreSQL one was stopped that had locked a row.
            strike(frozen, signal.SIGCONT)


def strike(pids: Iterable[int], blow: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, blow)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "fresh interpreter"])
def test_an_import_whose_process_hangs_goes_on_in_another_one(
    single: System, source: WebServer, gate: Gate, cold: bool
) -> None:
    one = Import(single, source.on(f"/hung-{cold}.img", gate.behaviour()), gate, cold=cold)
    freeze(single, [one.pid])
    until(lambda: start_time(one.pid) is None, 300.0, f"the end of the process that hangs\n{single.logs()}")
    gate.open()
    one.assert_ends_well()


def test_an_attempt_that_wakes_up_on_a_frozen_host_says_nothing(single: System, source: WebServer, gate: Gate) -> None:
    one = Import(single, source.on("/frozen.img", gate.behaviour()), gate)
    runner = read_runner_status(runner_status_path(single.settings))
    assert runner is not None
    # Nobody is there who could kill it.
    freeze(single, [runner.pid, runner.template_pid, one.pid])
    until(lambda: one.states[-1] == "AwaitingRetry", 180.0, f"the next attempt\n{single.logs()}")
    log = single.home / "log" / "worker.log"
    said = log.read_text().count(SILENT)
    strike([one.pid], signal.SIGCONT)
    until(lambda: log.read_text().count(SILENT) > said, 180.0, f"the late end\n{single.logs()}")
    assert one.states[-1] == "AwaitingRetry"
    strike([runner.template_pid, runner.pid], signal.SIGCONT)
    gate.open()
    one.assert_ends_well()


def test_imports_go_on_when_everything_was_frozen(single: System, source: WebServer, gate: Gate) -> None:
    one = Import(single, source.on("/everything.img", gate.behaviour()), gate)
    everything = [single.pids()["supervisor"], *descendants(single.pids()["supervisor"])]
    assert one.pid in everything
    freeze(single, everything)
    # The keeper may be the first to see the lease, or the process itself.
    strike(everything, signal.SIGCONT)
    gate.open()
    until(lambda: one.states[-1] == "Imported", 300.0, f"the end of the import\n{single.logs()}")
