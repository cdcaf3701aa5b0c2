"""What each death in the middle of an import leads to: the task ends or goes on, and nothing is left running.

The import waits in the middle of a conversion-like step: a plugin's child process is alive when the blow falls.
Times are printed, never asserted; `pytest -s` shows them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.system import Gate, System, until
from tests.fakes.web_server import WebServer
from transship.processes import descendants, start_time
from transship.runner_status import read_runner_status, runner_status_path

pytestmark = [pytest.mark.real, pytest.mark.faults]

BODY = os.urandom(1 << 20)
LEASE_S = 60.0
"""The default: what goes on sooner than that goes on because somebody noticed, not because time was up."""


@pytest.fixture(scope="module")
def matrix(source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "lease.ttl_s": LEASE_S,
        "lease.renew_s": 3.0,
        "lease.crash_retries": 9,
    }
    with System(tmp_path_factory.mktemp("matrix"), options) as running:
        yield running


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(BODY)
    yield made
    made.open()


def begin(system: System, source: WebServer, gate: Gate, path: str) -> tuple[str, int]:
    """Start an import and stop it half way; return its image and the process that carries it."""
    image_id = system.create(name=path)
    assert system.ask(image_id, source.on(path, gate.behaviour())).status_code == 202
    assert gate.reached.wait(120), system.logs()
    return image_id, until(system.flow_pids, 30.0, "the process of the run")[-1]


def template_of(system: System) -> int:
    status = read_runner_status(runner_status_path(system.settings))
    assert status is not None
    return status.template_pid


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if start_time(pid) is not None]


BLOWS: Mapping[str, signal.Signals] = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGSEGV": signal.SIGSEGV}


@pytest.mark.parametrize(
    ("victim", "blow"),
    [
        ("flow", "SIGKILL"),
        ("flow", "SIGTERM"),
        ("flow", "SIGSEGV"),
        ("template", "SIGKILL"),
        ("template", "SIGTERM"),
        ("worker", "SIGKILL"),
        ("worker", "SIGTERM"),
    ],
)
def test_an_import_goes_on_after_the_death_of(
    matrix: System, source: WebServer, gate: Gate, victim: str, blow: str
) -> None:
    image_id, flow = begin(matrix, source, gate, f"/{victim}-{blow}")
    worker = matrix.pids()["worker"]
    struck = {"flow": flow, "template": template_of(matrix), "worker": worker}[victim]
    # What has to be gone afterwards: the run's process and all that it had started, whoever was struck.
    doomed = [flow, *descendants(flow), *(descendants(struck) if victim != "flow" else [])]
    began = time.monotonic()
    os.kill(struck, BLOWS[blow])
    until(lambda: gone(doomed), 60.0, f"end of {doomed}")
    ended_s = time.monotonic() - began
    gate.open()
    task = matrix.ended(image_id, 180.0)
    print(f"{victim} {blow}: nothing left after {ended_s:.1f} s, import done after {time.monotonic() - began:.1f} s")
    assert (task["status"], matrix.image(image_id)["status"]) == ("success", "active"), matrix.logs()
    until(lambda: not [name for name in matrix.staged() if image_id in name], 30.0, "empty staging")


def test_a_cancel_ends_the_import(matrix: System, source: WebServer, gate: Gate) -> None:
    image_id, flow = begin(matrix, source, gate, "/cancel")
    run_id = matrix.flow_run(image_id)["id"]
    below = [flow, *descendants(flow)]
    began = time.monotonic()
    matrix.set_state(run_id, "CANCELLING", "Cancelling")
    task = matrix.ended(image_id, 60.0)
    print(f"cancel: task ended after {time.monotonic() - began:.1f} s")
    assert (task["status"], matrix.image(image_id)["status"]) == ("failure", "queued")
    assert "cancelled" in task["message"]
    until(lambda: matrix.prefect("GET", f"/flow_runs/{run_id}")["state"]["type"] == "CANCELLED", 30.0, "Cancelled")
    until(lambda: gone(below), 30.0, "end of the run's process")
    assert image_id not in matrix.stored()


def test_an_import_goes_on_after_the_death_of_everything(source: WebServer, gate: Gate, tmp_path: Path) -> None:
    options = {"uri.allowed_hosts": ["127.0.0.1"], "uri.allowed_ports": [source.port], "lease.ttl_s": LEASE_S}
    with System(tmp_path, {**options, "lease.renew_s": 3.0}) as system:
        image_id, _ = begin(system, source, gate, "/everything")
        began = time.monotonic()
        everything = [pid for pid in system.pids().values() for pid in (pid, *descendants(pid))]
        for pid in everything:
            if start_time(pid) is not None:
                os.kill(pid, signal.SIGKILL)
        until(lambda: gone(everything), 60.0, "end of everything")
        gate.open()
        system.up()
        task = system.ended(image_id, 180.0)
        print(f"everything SIGKILL: import done after {time.monotonic() - began:.1f} s, the start included")
        assert (task["status"], system.image(image_id)["status"]) == ("success", "active")
