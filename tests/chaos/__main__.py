"""``python -m tests.chaos [--kills N] [--seed N]``: kill processes of a running system at random; see what is lost.

Imports of all methods are asked for all the time. At random moments a process of a random kind is struck: the one that
carries an import, the worker, its template, the Images API, the keeper, the Prefect server. Most are killed; others are
stopped by SIGSTOP, and continued some time later or never. In the end every import must have ended: active with the
right bytes, or failed with a reason; no lock, no file that nobody knows of, no copy that is not there. What happened is
printed; the exit status is 1 when something is lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.fakes.fleet import KINDS, METHODS, Fleet, slowly
from transship.domain.errors import CatalogUnavailable, ConfigurationRefused
from transship.host.processes import is_stopped, start_time

BODY_BYTES = 3 << 20
LONGEST_PAUSE_S = 2.0
WEIGHTS = {"flow": 12, "template": 4}
"""The supervisor waits before it starts a process anew: killed all the time, the others would hardly ever run."""

BLOWS = {"SIGKILL": 6, "SIGSTOP, SIGCONT later": 2, "SIGSTOP for good": 2}
"""What a process is struck with, by how often."""

LONGEST_STOP_S = 90.0
"""Longer than any owner lets a process of its own stand still."""

OPTIONS = {"lease.ttl_s": 20.0, "lease.renew_s": 2.0}
"""Leases that are soon lost, so that more happens in the same time."""

CATALOGUE_AWAY = (CatalogUnavailable, ConfigurationRefused)
"""What it looks like while a process is stopped in the middle of a transaction."""

SUPERVISED = {"worker", "api", "keeper", "prefect-server"}


class Asking(threading.Thread):
    """Start imports one after another, so a few are always running."""

    def __init__(self, fleet: Fleet, seed: int, at_once: int) -> None:
        super().__init__(daemon=True)
        self.fleet, self.at_once = fleet, at_once
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ending.is_set():
                if not self._ask():
                    self.ending.wait(0.5)
        except BaseException as error:
            self.error = error
            raise

    def _ask(self) -> bool:
        """Start an import unless enough are running or the service is unavailable; return whether it was started."""
        try:
            if len(self.fleet.under_way()) >= self.at_once:
                return False
            method = METHODS[len(self.fleet.voyages) % len(METHODS)]
            body = os.urandom(BODY_BYTES)
            return self.fleet.ask(method, body, slowly(body, self.chance.uniform(0.0, 4.0))) is not None
        except CATALOGUE_AWAY:
            return False


def main() -> int:
    """Kill processes, and return what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--at-once", type=int, default=6, help="imports that run at the same time")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="transship-chaos-") as home, Fleet(Path(home), OPTIONS) as fleet:
        killed = _kill_at_random(fleet, options.kills, options.seed, options.at_once)
        began = time.monotonic()
        print(
            f"{killed.total()} kills done, {len(fleet.voyages)} imports asked for; waiting for their ends", flush=True
        )
        faults: list[str] = []
        try:
            fleet.settle(900.0)
        except AssertionError as late:
            faults = [*fleet.faults(), str(late)]
        print(f"settled after {time.monotonic() - began:.0f} s")
        for outcome, count in fleet.outcomes().items():
            print(f"{count:5}  {outcome}")
        for fault in faults:
            print(f"FAULT: {fault}")
        print("nothing is lost" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


def _kill_at_random(fleet: Fleet, kills: int, seed: int, at_once: int) -> Counter[str]:
    chance = random.Random(seed)
    asking = Asking(fleet, seed, at_once)
    asking.start()
    killed: Counter[str] = Counter()
    waking: list[threading.Timer] = []
    began = time.monotonic()
    try:
        while killed.total() < kills and asking.is_alive():
            time.sleep(chance.uniform(0.0, LONGEST_PAUSE_S))
            living = _living(fleet)
            if not living.keys() >= SUPERVISED:
                # One of these is away: what dies meanwhile is what carries imports.
                living = {kind: pids for kind, pids in living.items() if kind not in SUPERVISED}
            if not living:
                continue
            kind = chance.choices(sorted(living), [WEIGHTS.get(kind, 1) for kind in sorted(living)])[0]
            pid = chance.choice(living[kind])
            blow = chance.choices(list(BLOWS), list(BLOWS.values()))[0]
            if _strike(pid, blow, chance.uniform(0.0, LONGEST_STOP_S), waking):
                killed[f"{kind} {blow}"] += 1
            if killed.total() % 20 == 0:
                seconds = time.monotonic() - began
                print(
                    f"{seconds:5.0f} s  {killed.total()} kills {dict(killed)}, {len(fleet.voyages)} imports", flush=True
                )
    finally:
        asking.ending.set()
        asking.join()
        for timer in waking:
            timer.join()
    if asking.error is not None:
        raise asking.error
    print(f"blows by kind: {dict(sorted(killed.items()))}, within {time.monotonic() - began:.0f} s", flush=True)
    return killed


def _living(fleet: Fleet) -> dict[str, list[int]]:
    """Return the running processes that are not stopped, by kind."""
    try:
        found = {kind: [pid for pid in fleet.living(kind) if not is_stopped(pid)] for kind in KINDS}
    except CATALOGUE_AWAY:
        return {}
    return {kind: pids for kind, pids in found.items() if pids}


def _strike(pid: int, blow: str, stop_s: float, waking: list[threading.Timer]) -> bool:
    """Kill or stop a process; return whether it existed.

    Args:
        stop_s: after how many seconds it is continued, if it is.
        waking: gets the timer that does that.
    """
    try:
        os.kill(pid, signal.SIGKILL if blow == "SIGKILL" else signal.SIGSTOP)
    except ProcessLookupError:
        return False
    if blow == "SIGSTOP, SIGCONT later":
        waking.append(threading.Timer(stop_s, _continue, [pid, start_time(pid)]))
        waking[-1].start()
    return True


def _continue(pid: int, started: int | None) -> None:
    """Continue a stopped process if it still exists."""
    if start_time(pid) == started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main())
