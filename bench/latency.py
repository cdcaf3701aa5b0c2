"""``python -m bench latency``: how long a small import takes in the whole product, and where the time goes.

Imports of one MiB from a server on loopback: one after another, then many at once. The same is repeated with Prefect's
own worker in place of ours, and otherwise the same product.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import requests
from cryptography.fernet import Fernet
from sqlalchemy import func, select

from bench.memory import idle_memory
from bench.timeline import Asked, Timeline, timelines
from tests.fakes.postgres import PostgresServer
from tests.fakes.system import System, until
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog
from transship.catalog.schema import TASKS

MIB: Final = 1024 * 1024
BODY: Final = os.urandom(MIB)
POLL_S: Final = 0.01
"""Interval at which a client polls the image; each figure includes half of it on average."""
ASKING_THREADS: Final = 8
OURS, STOCK = "transship", "prefect"


class StockSystem(System):
    """The product with Prefect's own worker."""

    def up(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "bench.stock"], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr + self.logs())


@dataclass(frozen=True, slots=True)
class Burst:
    """Imports that were requested at the same time.

    Attributes:
        seconds: from the first request to the last active image.
        refused: 503 responses of the Images API and of Prefect's server.
        active: images that became active.
    """

    count: int
    seconds: float
    refused: int
    active: int

    @property
    def per_minute(self) -> float:
        """Imports a minute."""
        return 60 * self.active / self.seconds


@dataclass(slots=True)
class Figures:
    """The figures for one worker."""

    name: str
    singles: list[Timeline] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    idle_mib: Mapping[str, float] = field(default_factory=dict)


class Client:
    """A client that imports images."""

    def __init__(self, system: System, uri: str) -> None:
        self.system, self.uri = system, uri
        self.session = requests.Session()
        self.session.trust_env = False
        self.refused = 0

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        """Call the Images API; count 503 responses, and retry after them."""
        while True:
            answer = self.session.request(method, self.system.settings.api_url + path, json=body, timeout=60)
            if answer.status_code != 503:
                answer.raise_for_status()
                return answer
            self.refused += 1

    def create(self) -> str:
        """Create an image."""
        made = self.call("POST", "/v2/images", {"name": "bench", "disk_format": "raw", "container_format": "bare"})
        return str(made.json()["id"])

    def ask(self, image_id: str) -> None:
        """Start an image's import."""
        self.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "web-download", "uri": self.uri}})

    def import_one(self) -> Asked:
        """Import one image, and poll until it is active."""
        image_id = self.create()
        asked_at = time.time()
        self.ask(image_id)
        while (status := self.call("GET", f"/v2/images/{image_id}").json()["status"]) != "active":
            if status not in ("queued", "importing") or time.time() - asked_at > 120:
                raise RuntimeError(f"image {image_id} is {status}\n{self.system.logs()}")
            time.sleep(POLL_S)
        active_at = time.time()
        tasks = self.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return Asked(image_id, str(tasks[0]["id"]), asked_at, active_at)


def singles(system: System, uri: str, rounds: int) -> list[Timeline]:
    """Import images one after another; the first two do not count."""
    client = Client(system, uri)
    imports = []
    for _ in range(rounds + 2):
        imports.append(client.import_one())
        # Prefect records task runs and events for some time after the run.
        time.sleep(0.5)
    return timelines(system, imports[2:])


def burst(system: System, uri: str, count: int) -> Burst:
    """Start many imports at once, and wait for all of them."""
    client = Client(system, uri)
    images = [client.create() for _ in range(count)]
    before = server_refusals(system)
    catalog = Catalog.open(system.settings)
    clients = [Client(system, uri) for _ in range(ASKING_THREADS)]

    def ask_some(number: int) -> None:
        for image_id in images[number::ASKING_THREADS]:
            clients[number].ask(image_id)

    def by_status() -> dict[str, int]:
        counted = select(TASKS.c.status, func.count()).where(TASKS.c.image_id.in_(images)).group_by(TASKS.c.status)
        with catalog.read() as connection:
            return {str(status): int(number) for status, number in connection.execute(counted)}

    try:
        began = time.monotonic()
        with ThreadPoolExecutor(ASKING_THREADS) as threads:
            list(threads.map(ask_some, range(ASKING_THREADS)))
        until(lambda: sum(by_status().get(end, 0) for end in ("success", "failure")) == count, 600.0, "all imports")
        seconds = time.monotonic() - began
        refused = sum(one.refused for one in clients) + server_refusals(system) - before
        return Burst(count, seconds, refused, by_status().get("success", 0))
    finally:
        catalog.close()


def server_refusals(system: System) -> int:
    """Return how often Prefect's server has answered 503, according to its log."""
    logs = (system.home / "log").glob("prefect-server.log*")
    return sum(path.read_text(errors="replace").count('HTTP/1.1\\" 503') for path in logs)


@contextmanager
def running(kind: type[System], database: str) -> Iterator[tuple[System, str]]:
    """Start the product in a new home directory; yield it and the URI of an image of one MiB."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transship-latency-")))
        source = stack.enter_context(WebServer())
        options: dict[str, object] = {
            "uri.allowed_hosts": ["127.0.0.1"],
            "uri.allowed_ports": [80, 443, source.port],
            "prefect.poll_interval_s": 5,
            "lease.ttl_s": 60.0,
            "lease.renew_s": 3.0,
        }
        if database == "postgresql":
            servers = stack.enter_context(PostgresServer())
            options |= {
                "database.url": servers.new_database(),
                "database.secret_key": Fernet.generate_key().decode(),
                "prefect.database_url": servers.new_database(),
            }
        system = kind(home, options)
        # Makes Prefect's server log every response.
        system.environment["PREFECT_SERVER_LOGGING_LEVEL"] = "INFO"
        stack.enter_context(system)
        yield system, source.serve("/image.raw", BODY)


def measure(name: str, database: str, rounds: int, counts: Sequence[int]) -> Figures:
    """Measure one worker on one database."""
    figures = Figures(name)
    with running(System if name == OURS else StockSystem, database) as (system, uri):
        figures.singles = singles(system, uri, rounds)
        figures.idle_mib = idle_memory(system)
        figures.bursts = [burst(system, uri, count) for count in counts]
    return figures


def report(database: str, measured: Sequence[Figures]) -> str:
    """Return the figures as text."""
    by_name = {figures.name: figures for figures in measured}
    ours, stock = by_name[OURS], by_name.get(STOCK)
    lines = [f"{database}, 1 MiB, {len(ours.singles)} imports one after the other, load {os.getloadavg()[0]:.1f}"]
    lines.append(f"{'':<58} {'transship':>10} {'prefect':>10} {'ratio':>7}")
    rows: list[tuple[str, float, float | None]] = [
        (f"request to {what}, s (median)", _median(ours, attribute), _median(stock, attribute))
        for what, attribute in (("first line of the flow", "first_line_s"), ("active", "active_s"))
    ]
    for number, one in enumerate(ours.bursts):
        other = stock.bursts[number] if stock else None
        rows += [
            (f"{one.count} at once: seconds until all are active", one.seconds, other.seconds if other else None),
            (f"{one.count} at once: imports a minute", one.per_minute, other.per_minute if other else None),
            (f"{one.count} at once: active", one.active, other.active if other else None),
            (f"{one.count} at once: answers 503", one.refused, other.refused if other else None),
        ]
    rows.append(("memory of everything when idle, MiB (PSS)", sum(ours.idle_mib.values()), _idle(stock)))
    lines += [f"{text:<58} {mine:>10.3f} {_cell(theirs)} {_ratio(mine, theirs)}" for text, mine, theirs in rows]
    lines += ["", f"{'where the time goes (transship, medians, ms)':<58} {'ms':>10} {'share':>10}"]
    total = statistics.median(one.active_s for one in ours.singles)
    named = {
        name: statistics.median(one.steps.get(name, 0.0) for one in ours.singles) for name in ours.singles[0].steps
    }
    lines += [f"  {name:<56} {1000 * took:>10.1f} {took / total:>10.1%}" for name, took in named.items()]
    lines.append(f"  {'sum of the steps':<56} {1000 * sum(named.values()):>10.1f} {sum(named.values()) / total:>10.1%}")
    held = ", ".join(f"{name} {mib:.0f}" for name, mib in ours.idle_mib.items())
    lines += ["", f"idle memory by component, MiB (PSS): {held}"]
    return "\n".join(lines)


def _median(figures: Figures | None, attribute: str) -> float:
    return statistics.median(getattr(one, attribute) for one in figures.singles) if figures else float("nan")


def _idle(figures: Figures | None) -> float | None:
    return sum(figures.idle_mib.values()) if figures else None


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None or value != value else f"{value:>10.3f}"


def _ratio(mine: float, theirs: float | None) -> str:
    return f"{'-':>7}" if not theirs or theirs != theirs else f"{mine / theirs:>7.2f}"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench latency", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=20, help="imports one after the other")
    parser.add_argument("--burst", type=int, action="append", help="imports at once; may be repeated")
    parser.add_argument("--only", choices=(OURS, STOCK), help="measure one worker alone")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    options = parser.parse_args(arguments)
    # The started processes have their own sessions, and would outlive this one.
    signal.signal(signal.SIGTERM, _leave)
    counts = options.burst or [24, 64]
    names = (options.only,) if options.only else (OURS, STOCK)
    measured = [measure(name, options.database, options.rounds, counts) for name in names]
    if options.only == STOCK:
        measured = [Figures(OURS, measured[0].singles, measured[0].bursts, measured[0].idle_mib)]
    print(report(options.database, measured))
    if options.json is not None:
        options.json.write_text(json.dumps([_plain(one) for one in measured], indent=1))
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(1)


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        "worker": figures.name,
        "first_line_s": [one.first_line_s for one in figures.singles],
        "active_s": [one.active_s for one in figures.singles],
        "steps_s": [dict(one.steps) for one in figures.singles],
        "bursts": [[one.count, one.seconds, one.refused, one.active] for one in figures.bursts],
        "idle_mib": dict(figures.idle_mib),
    }
