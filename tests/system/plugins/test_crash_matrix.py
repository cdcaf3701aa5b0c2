"""What each death in the middle of an import leads to: the task ends or goes on, and nothing is left running.

Each blow falls on two imports at once. One stands in its download and has no child process; the other stands in its
conversion, and a qemu-img is alive and writes. Times are printed, never asserted; `pytest -s` shows them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.disk_images import MIB, converted
from tests.fakes.system import Gate, System, until
from tests.fakes.web_server import WebServer
from transship.host.processes import descendants, start_time
from transship.host.runner_status import RunnerStatus, read_runner_status, runner_status_path

pytestmark = [
    pytest.mark.real,
    pytest.mark.faults,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is missing; make bootstrap"),
]

BODY: Final = os.urandom(MIB)
DISK: Final = os.urandom(8 * MIB)


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("disk")
    (directory / "disk.raw").write_bytes(DISK)
    return converted(directory / "disk.raw", directory / "disk.qcow2", "qcow2").read_bytes()


@dataclass(frozen=True)
class Struck:
    """An import that is held in the middle.

    Attributes:
        flow: the process that carries it.
        below: all that this one has started.
        body: what the image has to hold in the end.
    """

    where: str
    image_id: str
    run_id: str
    flow: int
    below: tuple[int, ...]
    body: bytes


def runner_of(system: System) -> RunnerStatus:
    status = read_runner_status(runner_status_path(system.settings))
    assert status is not None
    return status


def carrier(system: System, run_id: str) -> int:
    """Return the process that carries a run."""

    def found() -> int | None:
        return next((one.pid for one in runner_of(system).executors if one.flow_run_id == run_id), None)

    pid: int = until(found, 180.0, f"the process of run {run_id}")
    return pid


def conversions(pids: list[int]) -> list[int]:
    """Return which of the processes are a qemu-img."""

    def name(pid: int) -> str:
        with suppress(OSError):
            return Path(f"/proc/{pid}/comm").read_text().strip()
        return ""

    return [pid for pid in pids if name(pid) == "qemu-img"]


def left_of(system: System) -> list[str]:
    """Return the command lines of all tools on the machine that work on staged files of a system."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if f"{system.settings.staging_dir}/" in words and start_time(int(entry.name)) is not None:
                found.append(words)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if start_time(pid) is not None]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(BODY)
    yield made
    made.open()


@pytest.fixture
def struck(
    system: System, source: WebServer, gate: Gate, qcow2: bytes, request: pytest.FixtureRequest
) -> tuple[Struck, Struck]:
    """An import in its download and one in its conversion, each in a process of its own."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    (system.home / "slow").touch()
    conversion = system.create(name=f"conversion {name}", disk_format="qcow2")
    assert system.ask(conversion, source.serve(f"/{name}.qcow2", qcow2)).status_code == 202
    download = system.create(name=f"download {name}")
    assert system.ask(download, source.on(f"/{name}.img", gate.behaviour())).status_code == 202
    assert gate.reached.wait(180), system.logs()
    return (_standing(system, "download", download, BODY), _standing(system, "conversion", conversion, DISK))


def _standing(system: System, where: str, image_id: str, body: bytes) -> Struck:
    run_id = str(system.flow_run(image_id)["id"])
    flow = carrier(system, run_id)
    if where == "conversion":
        # The converted file is there: qemu-img writes it.
        until(
            lambda: [name for name in system.staged() if image_id in name and "converted" in name], 180.0, "conversion"
        )
        until(lambda: conversions(descendants(flow)), 180.0, "a qemu-img that is alive")
    return Struck(where, image_id, run_id, flow, tuple(descendants(flow)), body)


def strike(pids: list[int], blow: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, blow)


def assert_ended_well(system: System, one: Struck, said: Callable[[str], None]) -> None:
    task = system.ended(one.image_id, 300.0)
    said(f"{one.where} done")
    image = system.image(one.image_id)
    assert (task["status"], image["status"]) == ("success", "active"), (one, task, system.logs())
    assert image["os_hash_value"] == hashlib.sha512(one.body).hexdigest()
    until(lambda: not [name for name in system.staged() if one.image_id in name], 180.0, "empty staging")


def stopwatch(event: str) -> Callable[[str], None]:
    began = time.monotonic()
    return lambda what: print(f"{event}: {what} after {time.monotonic() - began:.1f} s")


BLOWS: Final[Mapping[str, signal.Signals]] = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "SIGSEGV": signal.SIGSEGV,
}


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
def test_imports_go_on_after_the_death_of(
    system: System, struck: tuple[Struck, Struck], gate: Gate, victim: str, blow: str
) -> None:
    flows = [one.flow for one in struck]
    targets = {"flow": flows, "template": [runner_of(system).template_pid], "worker": [system.pids()["worker"]]}[victim]
    # What has to be gone afterwards: the runs' processes and all that they had started, whoever was struck.
    below = [pid for one in struck for pid in one.below]
    doomed = [*flows, *below, *(targets if victim != "flow" else [])]
    assert conversions(below)
    said = stopwatch(f"{victim} {blow}")
    strike(targets, BLOWS[blow])
    until(lambda: gone(doomed), 180.0, f"end of {doomed}")
    said("nothing left")
    gate.open()
    for one in struck:
        assert_ended_well(system, one, said)
    assert left_of(system) == []


def test_a_cancel_ends_the_imports(system: System, struck: tuple[Struck, Struck]) -> None:
    said = stopwatch("cancel")
    for one in struck:
        system.set_state(one.run_id, "CANCELLING", "Cancelling")
    for one in struck:
        task = system.ended(one.image_id, 300.0)
        said(f"{one.where} ended")
        assert (task["status"], system.image(one.image_id)["status"]) == ("failure", "queued")
        assert "cancelled" in task["message"]
    for one in struck:
        state = until(lambda run=one.run_id: _final_state(system, run), 180.0, "Cancelled")
        assert state == "CANCELLED"
        until(lambda pids=[one.flow, *one.below]: gone(pids), 180.0, "end of the run's processes")
        assert one.image_id not in system.stored()
    said("nothing left")
    assert left_of(system) == []


def _final_state(system: System, run_id: str) -> str | None:
    state = str(system.prefect("GET", f"/flow_runs/{run_id}")["state"]["type"])
    return state if state in ("CANCELLED", "COMPLETED", "FAILED", "CRASHED") else None


@pytest.mark.parametrize("child", [False, True], ids=["without-a-child", "with-a-qemu-img"])
def test_a_segfault_in_a_task_hits_its_own_run_alone(
    system: System, source: WebServer, struck: tuple[Struck, Struck], qcow2: bytes, child: bool
) -> None:
    name, body = ("segfault with a child", qcow2) if child else ("segfault alone", BODY)
    image_id = system.create(name=name, disk_format="qcow2" if child else "raw")
    said = stopwatch(name)
    assert system.ask(image_id, source.serve(f"/segfault-{child}", body)).status_code == 202
    run_id = str(system.flow_run(image_id)["id"])
    assert_ended_well(system, Struck("import", image_id, run_id, 0, (), DISK if child else BODY), said)
    assert (system.home / f"crashed-{image_id}").exists()
    states = system.prefect("GET", f"/flow_run_states/?flow_run_id={run_id}")
    assert [state["message"] for state in states if state["type"] == "CRASHED"] == ["its process was killed by SIGSEGV"]
    # The others stand where they stood, in the same processes.
    for one in struck:
        assert carrier(system, one.run_id) == one.flow
        assert not gone([one.flow])
    assert len(left_of(system)) == 1
    for one in struck:
        system.set_state(one.run_id, "CANCELLING", "Cancelling")
        system.ended(one.image_id, 300.0)


def test_imports_go_on_after_the_death_of_everything(system: System, struck: tuple[Struck, Struck], gate: Gate) -> None:
    # The guard would clean up after the others; here nobody is left who could.
    guard = parent_of(system.pids()["supervisor"])
    everything = [guard, *descendants(guard)]
    assert set(everything) > {pid for one in struck for pid in (one.flow, *one.below)}
    said = stopwatch("host SIGKILL")
    strike(everything, signal.SIGKILL)
    until(lambda: gone(everything), 180.0, "end of everything")
    said("nothing left")
    gate.open()
    system.up()
    said("up again")
    for one in struck:
        assert_ended_well(system, one, said)
    assert left_of(system) == []


def test_imports_go_on_after_down_and_up(system: System, struck: tuple[Struck, Struck], gate: Gate) -> None:
    everything = [pid for one in struck for pid in (one.flow, *one.below)]
    said = stopwatch("host SIGTERM")
    system.down()
    said("down")
    assert gone(everything)
    assert left_of(system) == []
    gate.open()
    system.up()
    said("up again")
    for one in struck:
        assert_ended_well(system, one, said)
