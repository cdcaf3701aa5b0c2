"""``python -m bench memory``: the memory of the idle product, and what one import adds, by size of the image.

Images of random data come from a server on loopback: raw ones, which are not converted, and qcow2 ones, which qemu-img
converts to raw. The memory of the import's process and its children is sampled many times a second.
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from bench.cases import random_file
from tests.fakes.range_server import RangedFile
from tests.fakes.system import System
from tests.fakes.web_server import WebServer
from transship.host.processes import children, descendants, resident_bytes
from transship.host.runner_status import RunnerStatus, read_runner_status, runner_status_path

MIB: Final = 1024 * 1024
POLL_S: Final = 0.01
"""Interval between two samples of an import."""

AS_IT_IS, CONVERTED = "as it is", "converted"
BUDGET_MIB: Final = 300
"""Memory limit of one import, independent of the size of its image."""


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of one or several processes in MiB.

    Attributes:
        rss: resident memory; shared pages count for each process.
        pss: the same, with shared pages divided among the processes.
    """

    rss: float = 0.0
    pss: float = 0.0

    def __add__(self, other: Held) -> Held:
        return Held(self.rss + other.rss, self.pss + other.pss)

    def most(self, other: Held) -> Held:
        """Return the larger of each."""
        return Held(max(self.rss, other.rss), max(self.pss, other.pss))


@dataclass(slots=True)
class Executor:
    """The peak memory of an executor: itself, its children, and both together."""

    before: Held
    own: Held = field(default_factory=Held)
    below: Held = field(default_factory=Held)
    both: Held = field(default_factory=Held)

    @property
    def growth(self) -> float:
        """Growth of its own and its children's memory in MiB (PSS)."""
        return self.both.pss - self.before.pss


@dataclass(frozen=True, slots=True)
class Import:
    """One sampled import."""

    kind: str
    mib: int
    seconds: float
    looks: int
    executor: Executor


def held_by(pid: int) -> Held:
    """Return the memory of a process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return Held()
    found = {words[0]: int(words[1]) / 1024 for line in lines if len(words := line.split()) == 3}
    return Held(found.get("Rss:", 0.0), found.get("Pss:", 0.0))


def held_by_all(pids: Sequence[int]) -> Held:
    """Return the memory of several processes together."""
    return sum((held_by(pid) for pid in pids), Held())


def programs_below(pid: int) -> list[int]:
    """Return the descendants of a process that run another program.

    A child that has not called exec yet shares its parent's memory, which would count twice.
    """
    own = _program(pid)
    return [child for child in descendants(pid) if _program(child) not in ("", own)]


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def idle_memory(system: System) -> dict[str, float]:
    """Return the memory of each component and its descendants in MiB (PSS)."""
    pids = system.pids()
    below = {name: [pid, *descendants(pid)] for name, pid in pids.items() if name != "supervisor"}
    held = {name: held_by_all(each).pss for name, each in below.items()}
    return {"supervisor": held_by(pids["supervisor"]).pss, **held}


def runner_parts(system: System) -> dict[str, float]:
    """Return the parts of the worker's idle memory in MiB (PSS)."""
    runner = _runner(system)
    executors = children(runner.template_pid)
    parts = {"dispatcher": held_by(runner.pid).pss, "template": held_by(runner.template_pid).pss}
    return {**parts, f"{len(executors)} executors": held_by_all(executors).pss}


def _runner(system: System) -> RunnerStatus:
    status = read_runner_status(runner_status_path(system.settings))
    if status is None or not status.template_pid:
        raise RuntimeError(f"no warm runner\n{system.logs()}")
    return status


class Sampler:
    """Samples all executors until it is stopped. Use as a context manager.

    Attributes:
        executors: the memory of each by process id, including executors started meanwhile.
        looks: number of samples.
    """

    def __init__(self, system: System) -> None:
        self._template = _runner(system).template_pid
        self.executors = {pid: Executor(held_by(pid)) for pid in children(self._template)}
        self.looks = 0
        self._resident: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look_out)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def carrier(self) -> Executor:
        """The executor that ran the import: the one whose memory grew most."""
        return max(self.executors.values(), key=lambda one: one.growth)

    def _look_out(self) -> None:
        while not self._done.wait(POLL_S):
            self.looks += 1
            for pid in children(self._template):
                self._look_at(pid, programs_below(pid))

    def _look_at(self, pid: int, below: Sequence[int]) -> None:
        # Shares cost a walk through all pages: those of processes that do nothing are not asked for again.
        resident = resident_bytes(pid)
        if not below and resident == self._resident.get(pid):
            return
        self._resident[pid] = resident
        own, children_held = held_by(pid), held_by_all(below)
        executor = self.executors.setdefault(pid, Executor(own))
        executor.own = executor.own.most(own)
        executor.below = executor.below.most(children_held)
        executor.both = executor.both.most(own + children_held)


def serve(server: WebServer, path: Path) -> str:
    """Serve a file without reading it into memory; return its URL."""
    with path.open("rb") as stream:
        body = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    return server.on(f"/{path.name}", RangedFile(memoryview(body)))


def image_file(kind: str, mib: int, directory: Path) -> Path:
    """Create an image of random data: raw, or a qcow2 with as much data."""
    raw = random_file(directory / f"image-{mib}.raw", mib * MIB)
    if kind == AS_IT_IS:
        return raw
    qcow2 = raw.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    raw.unlink()
    return qcow2


def import_one(system: System, server: WebServer, kind: str, mib: int) -> Import:
    """Import an image and sample the process that runs the import."""
    with tempfile.TemporaryDirectory(prefix="transship-memory-image-") as directory:
        path = image_file(kind, mib, Path(directory))
        uri = serve(server, path)
        with Sampler(system) as lookout:
            began = time.monotonic()
            image = system.import_from(uri, disk_format=path.suffix.lstrip("."))
            seconds = time.monotonic() - began
    if (image["status"], image["size"], image["disk_format"]) != ("active", mib * MIB, "raw"):
        raise RuntimeError(f"{image}\n{system.logs()}")
    system.api("DELETE", f"/v2/images/{image['id']}").raise_for_status()
    return Import(kind, mib, seconds, lookout.looks, lookout.carrier)


def idle_report(components: Mapping[str, float], worker: Mapping[str, float]) -> str:
    """Return the idle figures as text."""
    lines = [f"{'idle, MiB (PSS)':<30} {'':>9}"]
    for name, mib in components.items():
        lines.append(f"  {name:<28} {mib:>9.0f}")
        if name == "worker":
            lines += [f"    {part:<26} {held:>9.0f}" for part, held in worker.items()]
    return "\n".join([*lines, f"  {'in all':<28} {sum(components.values()):>9.0f}", ""])


def heading() -> str:
    """Return the header of the table of imports."""
    whose = ("executor", "children", "together", "together", "above", "", "")
    what = ("RSS", "RSS", "RSS", "PSS", "idle PSS", "seconds", "looks")
    lines = [" ".join(f"{word:>9}" for word in words) for words in (whose, what)]
    return f"{'one import, peak in MiB':<30} {lines[0].rstrip()}\n{'':<30} {lines[1]}"


def row(one: Import) -> str:
    """Return one import's line in that table."""
    carrier = one.executor
    held = (carrier.own.rss, carrier.below.rss, carrier.both.rss, carrier.both.pss, carrier.growth)
    figures = " ".join(f"{mib:>9.0f}" for mib in held)
    return f"  {f'{one.mib} MiB {one.kind}':<28} {figures} {one.seconds:>9.1f} {one.looks:>9}"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the figures; return 1 if an import exceeded its budget."""
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=__doc__)
    parser.add_argument("--mib", type=int, action="append", help="size of the image; may be repeated")
    options = parser.parse_args(arguments)
    # The started processes have their own sessions, and would outlive this one.
    signal.signal(signal.SIGTERM, _leave)
    imports = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-memory-")))
        server = stack.enter_context(WebServer())
        settings: dict[str, object] = {
            "uri.allowed_hosts": ["127.0.0.1"],
            "uri.allowed_ports": [80, 443, server.port],
            "imports.plugins": ["image_conversion"],
            "lease.ttl_s": 60.0,
            "lease.renew_s": 3.0,
        }
        system = stack.enter_context(System(home, settings))
        print(f"load {os.getloadavg()[0]:.1f}\n\n{idle_report(idle_memory(system), runner_parts(system))}\n{heading()}")
        for mib in options.mib or [64, 1024]:
            for kind in (AS_IT_IS, CONVERTED):
                imports.append(import_one(system, server, kind, mib))
                print(row(imports[-1]), flush=True)
    most = max(one.executor.both.rss for one in imports)
    print(f"\nmost that an import held: {most:.0f} MiB (RSS); the budget is {BUDGET_MIB} MiB")
    return 0 if most <= BUDGET_MIB else 1


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(1)
