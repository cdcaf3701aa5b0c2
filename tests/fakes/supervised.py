"""Runs the real supervisor over a process table of small commands: ``python -m tests.fakes.supervised FILE``.

The file holds JSON: home, detach, and components as argument lists with fields of `Component`; with ``fork_server``,
they are forked where they name imports.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from config.settings import Settings
from transship.supervisor import launch as launching
from transship.supervisor.component import Component
from transship.supervisor.home import HomeLock, first_start
from transship.supervisor.launch import Launch, run_in_background, run_in_foreground
from transship.supervisor.supervisor import Plan

REPOSITORY = Path(__file__).parents[2]


def start(table_file: Path, asked: Mapping[str, object]) -> subprocess.Popen[str]:
    """Run the supervisor in a separate process.

    Args:
        table_file: where it finds what is asked, also when it is reloaded.
        asked: the content of the file.
    """
    table_file.write_text(json.dumps(asked), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.supervised", str(table_file)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def supervised(home: Path, *components: Mapping[str, object], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Supervise components in a separate process until the block ends.

    Args:
        options: what else the file is to hold.
    """
    process = start(home.with_suffix(".json"), {"home": str(home), "components": components, **options})
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=300)


def told(process: subprocess.Popen[str], text: str) -> str:
    """Return a process's next line with a text; fail if it ends without one."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r} in {lines}")


def read() -> dict[str, Any]:
    return dict(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


def table() -> tuple[Component, ...]:
    """Return the components, as the file has them now."""
    return tuple(
        Component(**{"environment": dict(os.environ), **one, "argv": tuple(one["argv"])})
        for one in read()["components"]
    )


def main() -> int:
    asked = read()
    settings = Settings.model_validate({"home": asked["home"], "supervisor": asked.get("supervisor", {})})
    first_start(settings)
    if "standstill_s" in asked:
        launching.Plan = partial(Plan, standstill_s=asked["standstill_s"])  # type: ignore[misc]  # a class in the product
    fork_server = None
    if asked.get("fork_server"):
        argv = (sys.executable, "-P", "-m", "transship.supervisor.fork_server")
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OF_FORK_SERVER": "leaks"}
        fork_server = Component("fork-server", argv, environment)
    launch = Launch(settings, HomeLock.take(settings), table(), table, fork_server)
    if asked.get("detach"):
        return run_in_background(launch, lambda component, line: print(component, line, flush=True))
    return run_in_foreground(launch, lambda: None)


if __name__ == "__main__":
    sys.exit(main())
