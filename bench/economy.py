"""``python -m bench economy``: the costs of an import and of a start, compared with another checkout in the same run.

`bench/probe.py` counts in a running system; only this benchmark installs it there. This file also runs as a script in
the other checkout, with that one's interpreter and modules, so it uses only those parts of `tests.fakes` that both
have, and no part of the product.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import runpy
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fakes.prefect_database import copy_prefect_database
from tests.fakes.system import System
from tests.fakes.web_server import WebServer

OURS: Final = Path(__file__).parents[1]
PROBE: Final = Path(__file__).with_name("probe.py")

probe: Final = runpy.run_path(str(PROBE))
"""From this checkout, even if the modules of another one are imported."""

BODY: Final = os.urandom(1024 * 1024)
IDLE_S: Final = 20.0
"""Seconds for which an idle system is observed: twice the longest interval of the keeper's frequent duties."""
AFTERMATH_S: Final = 5.0
"""Seconds after an import for follow-up work: clean-up, notifications, Prefect's recorders."""
LIMIT_S: Final = 300.0
KINDS: Final = ("api", "keeper", "flow", "dispatcher", "others")
EVENT_TABLES: Final = ("events", "event_resources")
SINGLES: Final = 2
"""Imports before the burst."""
IMPORT_PREFECT: Final = "import prefect.server.api.server"


@dataclass(slots=True)
class Spent:
    """The time that something took.

    Attributes:
        seconds: elapsed; cpu: CPU seconds of all processes together.
    """

    seconds: float
    cpu: float


@dataclass(slots=True)
class Counts:
    """Statements to the catalogue by kind of process, and requests to Prefect's server."""

    statements: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    requests: float = 0.0

    @property
    def all(self) -> float:
        """Statements of all processes."""
        return sum(self.statements.values())

    def without(self, idle: Counts, seconds: float) -> Counts:
        """Return the counts minus those of an idle system over the same time."""
        left = {kind: number - idle.statements[kind] * seconds for kind, number in self.statements.items()}
        return Counts(left, self.requests - idle.requests * seconds)


class Watched:
    """A system whose processes record their statements and requests."""

    def __init__(self, tree: Path, stack: ExitStack) -> None:
        self._records = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-records-")))
        # A store on another filesystem, if possible, so bytes are written and not linked.
        other = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-store-", dir=other)))
        site = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-site-")))
        (site / "sitecustomize.py").write_text(probe["SITECUSTOMIZE"])
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-economy-")))
        self._source = stack.enter_context(WebServer())
        self.uri = self._source.serve("/image.raw", BODY)
        self.system = System(
            home,
            {
                "uri.allowed_hosts": ["127.0.0.1"],
                "uri.allowed_ports": [80, 443, self._source.port],
                "stores": {"other": {"dir": str(self._store / "images")}},
                "default_store": "other",
                # The defaults: the fakes use shorter intervals, which cost statements.
                "prefect.poll_interval_s": 5,
                "lease.ttl_s": 60.0,
                "lease.renew_s": 15.0,
            },
        )
        self.system.environment |= {
            "PYTHONPATH": str(site),
            "PROBE_FILE": str(PROBE),
            "PROBE_RECORDS": str(self._records),
            "PROBE_CATALOGUE": "catalog.db",
            "PROBE_TREE": str(tree),
            "PROBE_STORE": str(self._store / "images"),
            "PROBE_SOURCE_PORT": str(self._source.port),
            # Makes Prefect's server log every response.
            "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
        }
        self.prefect_database = home / "prefect" / "prefect.db"
        self.prefect_database.parent.mkdir(mode=0o700)
        copy_prefect_database(self.prefect_database)

    @contextmanager
    def up(self) -> Iterator[Spent]:
        """Start the system; yield the time that the start took."""
        before, began = _cpu_of_commands(), time.monotonic()
        self.system.up()
        seconds = time.monotonic() - began
        cpu = _cpu_of_commands() - before + sum(cpu_seconds(pid) for pid in self.pids())
        try:
            yield Spent(seconds, cpu)
        finally:
            self.system.down()

    def pids(self) -> list[int]:
        """Return all processes of this system, however they were started."""
        mark = f"TRANSSHIP_HOME={self.system.home}\0".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def counts(self, began: float, ended: float) -> Counts:
        """Return the counts between two times, in seconds since the epoch."""
        counted = Counts(requests=self._requests())
        kinds = self._kinds()
        for path in self._records.glob("statements-*"):
            kind = kinds.get(int(path.name.partition("-")[2]), "others")
            moments = (float(line.split(" ", 1)[0]) for line in path.read_text().splitlines())
            counted.statements[kind] += sum(began <= moment < ended for moment in moments)
        return counted

    def statements(self, began: float, ended: float) -> Counter[tuple[str, str]]:
        """Return how often each kind of process sent each statement between two times."""
        kinds = self._kinds()
        found: Counter[tuple[str, str]] = Counter()
        for path in self._records.glob("statements-*"):
            kind = kinds.get(int(path.name.partition("-")[2]), "others")
            for line in path.read_text().splitlines():
                moment, _, statement = line.partition(" ")
                if began <= float(moment) < ended:
                    found[kind, statement] += 1
        return found

    def _kinds(self) -> dict[int, str]:
        pids = {pid: name for name, pid in self.system.pids().items()}
        named = {pid: {"worker": "dispatcher"}.get(name, name) for pid, name in pids.items()}
        kinds = {pid: name if name in KINDS else "others" for pid, name in named.items()}
        runner = json.loads((self.system.home / "run" / "runner.json").read_text())
        return kinds | {each["pid"]: "flow" for each in runner["executors"]}

    def _requests(self) -> int:
        logs = (self.system.home / "log").glob("prefect-server.log*")
        return sum(len(re.findall(r'HTTP/1\.1\\" \d', path.read_text(errors="replace"))) for path in logs)

    def during(self, work: Callable[[], object]) -> tuple[Counts, float, float]:
        """Return the counts while some work was done, and when it began and ended."""
        requests, began = self._requests(), time.time()
        work()
        ended = time.time()
        counted = self.counts(began, ended)
        counted.requests -= requests
        return counted, began, ended

    def frames(self, what: str) -> list[str]:
        """Return our own frames at the call with the most of them, outermost first."""
        found = [path.read_text().splitlines() for path in self._records.glob(f"frames-{what}-*")]
        return max(found, key=len, default=[])

    def import_images(self, count: int) -> None:
        """Create images, start their imports, and wait until all are active, without polling the API."""
        images = [self.system.create(name="bench") for _ in range(count)]
        for image_id in images:
            body = {"method": {"name": "web-download", "uri": self.uri}}
            self.system.api("POST", f"/v2/images/{image_id}/import", json=body).raise_for_status()
        deadline = time.monotonic() + LIMIT_S
        marks = ",".join("?" * count)
        with closing(sqlite3.connect(f"file:{self.system.home / 'catalog.db'}?mode=ro", uri=True)) as catalog:
            asked = f"SELECT count(*) FROM images WHERE status = 'active' AND id IN ({marks})"
            while catalog.execute(asked, images).fetchone()[0] < count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not active after {LIMIT_S} s\n{self.system.logs()}")
                time.sleep(0.01)

    def prefect_bytes(self) -> tuple[float, int, dict[str, float]]:
        """Return KiB that Prefect's database uses, its events, and the KiB by table with its indexes."""
        by_table = """SELECT m.tbl_name, sum(s.pgsize) / 1024.0 FROM dbstat s JOIN sqlite_master m ON m.name = s.name
                      GROUP BY m.tbl_name"""
        with closing(sqlite3.connect(f"file:{self.prefect_database}?mode=ro", uri=True)) as database:
            tables = {str(name): float(kib) for name, kib in database.execute(by_table)}
            events = int(database.execute("SELECT count(*) FROM events").fetchone()[0])
        return sum(tables.values()), events, tables

    def age_events(self) -> None:
        """Make all events two hours older; call this only while nothing runs."""
        with closing(sqlite3.connect(self.prefect_database)) as database, database:
            for table in EVENT_TABLES:
                database.execute(
                    f"UPDATE {table} SET occurred = strftime('%Y-%m-%d %H:%M:%f000', occurred, '-2 hours')"
                )


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of those of its children that it has waited for."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in words[11:15]) / os.sysconf("SC_CLK_TCK")


def pss_mib(pids: Sequence[int]) -> float:
    """Return the memory of processes, with shared pages divided among them (PSS)."""
    found = 0
    for pid in pids:
        with suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found += sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE))
    return found / 1024


def _cpu_of_commands() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fresh_import() -> Spent:
    """Import Prefect's server in a new interpreter."""
    before, began = _cpu_of_commands(), time.monotonic()
    subprocess.run([sys.executable, "-P", "-c", IMPORT_PREFECT], check=True)
    return Spent(time.monotonic() - began, _cpu_of_commands() - before)


def measure(tree: Path, burst: int, rest_s: float) -> dict[str, Any]:
    """Measure the checkout whose modules are imported here."""
    found: dict[str, Any] = {"size": size_of(tree)}
    with ExitStack() as stack:
        watched = Watched(tree, stack)
        imports = [fresh_import()]
        with watched.up() as up:
            found |= running(watched, burst, rest_s)
        watched.age_events()
        imports.append(fresh_import())
        with watched.up() as again:
            # The first vacuum runs when the server starts.
            time.sleep(IDLE_S)
        kib, _, tables = watched.prefect_bytes()
    found["up"], found["again"] = asdict(up), asdict(again)
    found["import"] = {name: statistics.mean(getattr(one, name) for one in imports) for name in ("seconds", "cpu")}
    # Events from before the burst are gone too; the remaining space is divided among all imports.
    events = sum(tables[name] for name in EVENT_TABLES)
    kept = kib - events - found["prefect"].pop("kib_before_without_events")
    found["prefect"]["kib_after_an_hour"] = kept / burst + events / (burst + SINGLES)
    return found


def running(watched: Watched, burst: int, rest_s: float) -> dict[str, Any]:
    """Measure a system that has just been started."""
    watched.import_images(1)
    time.sleep(AFTERMATH_S)
    idle, _, _ = watched.during(lambda: time.sleep(IDLE_S))
    idle = Counts({kind: number / IDLE_S for kind, number in idle.statements.items()}, idle.requests / IDLE_S)
    second, began, ended = watched.during(lambda: watched.import_images(1))
    after, _, later = watched.during(lambda: time.sleep(AFTERMATH_S))
    shapes = watched.statements(began, ended)
    before = watched.prefect_bytes()
    watched.import_images(burst)
    time.sleep(rest_s)
    memory = pss_mib(watched.pids())
    settled = watched.prefect_bytes()
    return {
        "idle": asdict(idle),
        "import_statements": asdict(second.without(idle, ended - began)),
        "aftermath": asdict(after.without(idle, later - ended)),
        "shapes": [[kind, number, text] for (kind, text), number in shapes.most_common()],
        "frames": {what: watched.frames(what) for what in ("read", "write")},
        "memory_mib": memory,
        "prefect": {
            "kib_before_without_events": before[0] - sum(before[2][name] for name in EVENT_TABLES),
            "kib": (settled[0] - before[0]) / burst,
            "events": (settled[1] - before[1]) / burst,
            "tables": {
                name: (kib - before[2].get(name, 0.0)) / burst
                for name, kib in sorted(settled[2].items(), key=lambda each: before[2].get(each[0], 0.0) - each[1])
                if kib - before[2].get(name, 0.0) >= burst
            },
        },
    }


def size_of(tree: Path) -> dict[str, int]:
    """Return the number of lines (including blanks and comments) and files of a checkout's installed Python code."""
    files = [path for room in probe["ROOMS"] for path in (tree / room).rglob("*.py")]
    return {"lines": sum(path.read_text().count("\n") for path in files), "modules": len(files)}


def report(figures: Mapping[str, Mapping[str, Any]], *, statements: bool) -> str:
    """Return the figures as a table with one column per checkout."""
    columns = list(figures.values())
    rows: list[tuple[str, Callable[[Mapping[str, Any]], float]]] = [
        ("product: lines", lambda one: one["size"]["lines"]),
        ("product: modules", lambda one: one["size"]["modules"]),
        ("files of a kind of store", lambda one: one["touched"]["kind"]),
        ("files of an import method", lambda one: one["touched"]["method"]),
        ("files of an endpoint, median", lambda one: one["touched"]["endpoint"]),
        *(
            (f"statements of an import: {kind}", lambda one, kind=kind: one["import_statements"]["statements"][kind])
            for kind in KINDS
        ),
        ("statements of an import: all", lambda one: sum(one["import_statements"]["statements"].values())),
        (f"… in the {AFTERMATH_S:.0f} s after it", lambda one: sum(one["aftermath"]["statements"].values())),
        ("statements a second, idle", lambda one: sum(one["idle"]["statements"].values())),
        ("own frames at the socket read", lambda one: len(one["frames"]["read"])),
        ("… below the Prefect task", lambda one: len(probe["below_the_task"](one["frames"]["read"]))),
        ("own frames at the store write", lambda one: len(one["frames"]["write"])),
        ("… below the Prefect task", lambda one: len(probe["below_the_task"](one["frames"]["write"]))),
        ("first start: s to ready", lambda one: one["up"]["seconds"]),
        ("first start: CPU s", lambda one: one["up"]["cpu"]),
        ("second start: s to ready", lambda one: one["again"]["seconds"]),
        ("second start: CPU s", lambda one: one["again"]["cpu"]),
        (f"{IMPORT_PREFECT}: s", lambda one: one["import"]["seconds"]),
        (f"{IMPORT_PREFECT}: CPU s", lambda one: one["import"]["cpu"]),
        ("second start ÷ that import", lambda one: one["again"]["seconds"] / one["import"]["seconds"]),
        ("memory of everything, MiB (PSS)", lambda one: one["memory_mib"]),
        ("Prefect's database, KiB an import", lambda one: one["prefect"]["kib"]),
        ("… when its events are two hours old", lambda one: one["prefect"]["kib_after_an_hour"]),
        ("Prefect's events an import", lambda one: one["prefect"]["events"]),
        (
            "requests to Prefect an import",
            lambda one: one["import_statements"]["requests"] + one["aftermath"]["requests"],
        ),
        ("requests to Prefect a second, idle", lambda one: one["idle"]["requests"]),
    ]
    names = [Path(name).name[-12:] for name in figures]
    lines = [f"load {os.getloadavg()[0]:.1f}", f"{'':<48}" + "".join(f"{name:>14}" for name in names)]
    lines += [f"{text:<48}" + "".join(f"{value(one):>14.1f}" for one in columns) for text, value in rows]
    for name, one in figures.items():
        for what in ("read", "write"):
            lines += ["", f"{name}: at the {what}", *(f"  {frame}" for frame in one["frames"][what])]
        tables = ", ".join(f"{table} {kib:.1f}" for table, kib in one["prefect"]["tables"].items())
        lines += ["", f"{name}: Prefect's database, KiB an import by table: {tables}"]
        if statements:
            lines += ["", f"{name}: statements of an import"]
            lines += [f"  {number:>3} {kind:<10} {text[:150]}" for kind, number, text in one["shapes"]]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure one or two checkouts, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench economy", description=__doc__)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout, with its .venv")
    parser.add_argument("--burst", type=int, default=24, help="imports before memory and database are looked at")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds after them")
    parser.add_argument("--statements", action="store_true", help="also print every statement of an import")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    # The started processes have their own sessions, and would outlive this one.
    signal.signal(signal.SIGTERM, _leave)
    if options.figures is not None:
        options.figures.write_text(json.dumps(measure(Path.cwd(), options.burst, options.rest)))
        return 0
    # Not above: the other checkout has no such module.
    from bench.touched import touched  # noqa: PLC0415

    figures = {
        str(tree): {**_figures_of(tree.resolve(), options), "touched": touched(tree)} for tree in (*options.tree, OURS)
    }
    print(report(figures, statements=options.statements))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


def _figures_of(tree: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run this file with the interpreter and the modules of a checkout."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "figures.json")
        command = [str(tree / ".venv/bin/python"), "-P", __file__, "--figures", str(target)]
        command += ["--burst", str(options.burst), "--rest", str(options.rest)]
        subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
        found: dict[str, Any] = json.loads(target.read_text())
    return found


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
