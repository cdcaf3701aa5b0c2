"""``python -m bench [NAME …]``: print the median ratio of each step to its peer; below 1 is faster than the peer."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import economy, latency, memory, stores
from bench.cases import CASES, Case


def seconds(work: Callable[[], None]) -> float:
    """Return the wall seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(case: Case, rounds: int) -> tuple[list[float], list[float]]:
    """Run ours and the peer alternately under the same conditions; the first round is a warm-up."""
    ours, peer = [], []
    for number in range(rounds + 1):
        pair = seconds(case.ours), seconds(case.peer)
        if number:
            ours.append(pair[0])
            peer.append(pair[1])
    return ours, peer


def main() -> int:
    """Run the named benchmarks, or all."""
    whole = {"economy": economy.main, "latency": latency.main, "memory": memory.main, "stores": stores.main}
    if sys.argv[1:] and sys.argv[1] in whole:
        return whole[sys.argv[1]](sys.argv[2:])
    epilog = "of the whole product: python -m bench (economy | latency | memory | stores) --help"
    parser = argparse.ArgumentParser(description=__doc__, epilog=epilog)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--mib", type=int, default=256, help="size of the test image")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.names) - set(CASES)
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    print(f"{'step':<12} {'ours s':>8} {'peer s':>8} {'ratio':>6}  peer ({options.mib} MiB, {options.rounds} rounds)")
    for name in options.names or CASES:
        with tempfile.TemporaryDirectory(prefix="transship-bench-") as directory:
            case = CASES[name](Path(directory), options.mib * 1024 * 1024)
            try:
                ours, peer = measure(case, options.rounds)
            finally:
                case.close()
        ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
        print(
            f"{name:<12} {statistics.median(ours):8.3f} {statistics.median(peer):8.3f} {ratio:6.2f}  {case.peer_name}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
