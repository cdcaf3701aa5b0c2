"""``python -m bench.stock``: `transship up --detach` with Prefect's own process worker in place of ours."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from config.loading import load_settings
from config.settings import Settings
from transship.supervisor.component import Component
from transship.supervisor.environment import base_environment, client_environment
from transship.supervisor.home import prepare
from transship.supervisor.launch import Launch, run_in_background
from transship.supervisor.output import Console
from transship.supervisor.table import process_table

POLL_S: Final = 3
"""Shorter than Prefect's default of 10: the best setting for the stock worker that does not overload the server."""


def stock_worker(settings: Settings, ours: Component) -> Component:
    """Return the component that replaces our worker."""
    client = client_environment(settings, base_environment(settings, {}))
    arguments = (
        *("worker", "start", "--pool", settings.prefect.work_pool, "--type", "process"),
        *("--limit", str(settings.prefect.worker_limit), "--name", settings.host_name),
        *("--work-queue", f"host-{settings.host_name}", "--work-queue", "default"),
        *("--install-policy", "never"),
    )
    return replace(
        ours,
        argv=(sys.executable, "-P", "-m", "prefect", *arguments),
        environment={**client, "PREFECT_WORKER_QUERY_SECONDS": str(POLL_S)},
        ready_text=f"Worker {settings.host_name!r} started!",
        settle_s=30.0,
    )


def main() -> int:
    """Start everything; return when it is ready."""
    settings = load_settings().settings
    lock = prepare(settings)

    def table() -> tuple[Component, ...]:
        ours = process_table(settings, {})
        return tuple(stock_worker(settings, one) if one.name == "worker" else one for one in ours)

    return run_in_background(Launch(settings, lock, table(), table), Console())


if __name__ == "__main__":
    raise SystemExit(main())
