"""``python -m transship.runner``: carry out the runs of this host's queues until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import httpx
import structlog
from prefect.exceptions import PrefectException

from config.loading import load_settings
from deployments.definition import definition_file, read_definitions
from deployments.pool import DEFAULT_QUEUE, host_queue
from transship.domain.errors import TransshipError
from transship.logs import configure_logs
from transship.processes import become_subreaper
from transship.runner.dispatcher import Dispatcher
from transship.runner.engine import PROBE
from transship.runner_status import RUNNER_READY


def main() -> int:
    """Run the dispatcher; return the exit status."""
    try:
        settings = load_settings().settings
        # Queues are named: without any, Prefect would give us what only another host's staging holds.
        queues = (host_queue(settings), DEFAULT_QUEUE)
        flows = tuple(definition.entrypoint for definition in read_definitions(definition_file()))
    except TransshipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    configure_logs(settings.log.level, "worker")
    # One line for each call to Prefect would hide all others.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Executors of a template that was killed come to us, to be seen off.
    become_subreaper()

    async def serve() -> None:
        await Dispatcher(settings, queues, (*flows, PROBE), _say_ready).run()

    try:
        asyncio.run(serve())
    except (httpx.HTTPError, PrefectException) as fault:
        print(f"error: Prefect at {settings.prefect_api_url}: {str(fault) or type(fault).__name__}", file=sys.stderr)
        return 1
    structlog.get_logger("transship.runner").info("stopped", pid=os.getpid())
    return 0


def _say_ready(complaint: str) -> None:
    # One line: who waits for it reads the rest as what is wrong.
    print(f"{RUNNER_READY}: {' '.join(complaint.split())}" if complaint else RUNNER_READY, flush=True)


if __name__ == "__main__":
    sys.exit(main())
