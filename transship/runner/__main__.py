"""``python -m transship.runner``: carry out the runs of this host's queues until stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import httpx
import structlog
from prefect.exceptions import PrefectException

from config.loading import SNAPSHOT_VARIABLE
from config.settings import Settings
from config.snapshot import settings_in_force, sources_of_process, take_snapshot
from deployments.definition import definition_file, read_definitions
from deployments.pool import DEFAULT_QUEUE, host_queue
from transship.domain.errors import TransshipError
from transship.host.logs import configure_logs
from transship.host.processes import become_subreaper
from transship.host.runner_status import RUNNER_READY
from transship.runner.dispatcher import Dispatcher
from transship.runner.engine import PROBE
from transship.runner.template import fork_template


def main() -> int:
    """Run the dispatcher; return the exit status."""
    try:
        settings = _handed_settings()
        # Name the queues: otherwise Prefect would also assign runs that need another host's staging.
        queues = (host_queue(settings), DEFAULT_QUEUE)
        flows = (*(definition.entrypoint for definition in read_definitions(definition_file())), PROBE)
    except TransshipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Fork while this process has one thread and no connections.
    template = fork_template(flows) if settings.runner.engine == "warm" else None
    configure_logs(settings.log.level, "worker")
    # httpx logs a line per request, which would hide all other lines.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Adopt the executors of a killed template, to end them.
    become_subreaper()

    async def serve() -> None:
        await Dispatcher(settings, queues, flows, _say_ready, template).run()

    try:
        asyncio.run(serve())
    except (httpx.HTTPError, PrefectException) as fault:
        print(f"error: Prefect at {settings.prefect_api_url}: {str(fault) or type(fault).__name__}", file=sys.stderr)
        return 1
    structlog.get_logger("transship.runner").info("stopped", pid=os.getpid())
    return 0


def _handed_settings() -> Settings:
    """Return the settings passed to this process; if none were passed, read them and pass them to its children."""
    loaded = settings_in_force()
    if SNAPSHOT_VARIABLE not in os.environ:
        os.environ[SNAPSHOT_VARIABLE] = str(take_snapshot(loaded, sources_of_process(), supervised=False))
    return loaded.settings


def _say_ready(complaint: str) -> None:
    # One line: the reader takes the text after the prefix as the problem.
    print(f"{RUNNER_READY}: {' '.join(complaint.split())}" if complaint else RUNNER_READY, flush=True)


if __name__ == "__main__":
    sys.exit(main())
