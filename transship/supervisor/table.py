"""The process table: which processes run on a machine, and the order in which they start and stop."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from config.settings import Settings
from deployments.definition import definition_file, read_definitions
from transship.api import API_READY
from transship.host.runner_status import RUNNER_READY
from transship.keeper import KEEPER_READY
from transship.runner.prefect_server import NOTE_FILE
from transship.runner.template import HEAVY
from transship.supervisor.component import Component, Renewal
from transship.supervisor.environment import (
    base_environment,
    client_environment,
    fork_server_environment,
    server_environment,
)

SETTLE_S: Final = 2.0
"""Seconds within which a process without a health check exits if it refuses its configuration."""


WORKER_SETTLE_S: Final = 90.0
"""Seconds after which a worker counts as up without its ready line: Prefect is slow, and the worker keeps trying."""


SERVER_IMPORTS: Final = ("prefect.server.api.server", "transship.runner.prefect_server", "uvicorn", "blocks")


class Stage(IntEnum):
    """Order of the start.

    The API does not need Prefect and starts in parallel with it; requests meanwhile are kept in the outbox. The keeper
    waits for the deployments, because it fails requests for deployments that Prefect does not know.
    """

    SERVERS = 0
    DEPLOY = 1
    IMPORTS = 2


class StopRank(IntEnum):
    """Order of the stop: imports end before the services to which they report."""

    WORKER = 0
    API = 1
    KEEPER = 2
    PREFECT = 3


def process_table(settings: Settings, overrides: Mapping[str, str]) -> tuple[Component, ...]:
    """Return all processes that the settings require.

    Args:
        settings: in force; the home directory has been initialized.
        overrides: ``TRANSSHIP_…`` variables of all processes; names the snapshot of these settings.

    Raises:
        ConfigurationRefused: a secret cannot be read.
    """
    base = base_environment(settings, overrides)
    client = client_environment(settings, base)
    kill_after_s = settings.supervisor.kill_after_s
    server = _component(
        "prefect-server",
        "transship.runner.prefect_server",
        ("--note", str(settings.run_dir / NOTE_FILE)),
        environment=server_environment(settings, base),
        stage=Stage.SERVERS,
        stop_rank=StopRank.PREFECT,
        # This endpoint requires no login.
        health_url=f"{settings.prefect_api_url}/health",
        kill_after_s=kill_after_s,
        renewal=Renewal.KEEP,
        imports=SERVER_IMPORTS,
    )
    services = (
        _component(
            "deploy",
            "transship.cli",
            ("deploy", "--if-changed"),
            environment=client,
            stage=Stage.DEPLOY,
            once=True,
            kill_after_s=kill_after_s,
            imports=_flow_imports(),
        ),
        _component(
            "keeper",
            "transship.keeper",
            environment=base,
            stage=Stage.IMPORTS,
            stop_rank=StopRank.KEEPER,
            ready_text=KEEPER_READY,
            settle_s=SETTLE_S,
            kill_after_s=kill_after_s,
            imports=("transship.keeper.__main__",),
        ),
        _component(
            "worker",
            "transship.runner",
            environment=client,
            stage=Stage.IMPORTS,
            stop_rank=StopRank.WORKER,
            ready_text=RUNNER_READY,
            settle_s=WORKER_SETTLE_S,
            # It waits for running imports, interrupts the rest, and waits for them to end.
            kill_after_s=settings.supervisor.drain_s + 3 * kill_after_s,
            renewal=Renewal.SIGNAL,
            imports=_flow_imports(),
        ),
        _component(
            "api",
            "transship.api",
            environment=base,
            stage=Stage.SERVERS,
            stop_rank=StopRank.API,
            health_url=f"{settings.api_url}/healthcheck",
            ready_text=API_READY,
            listen=(settings.api.host, settings.api.port),
            kill_after_s=kill_after_s,
            renewal=Renewal.REPLACE,
            imports=("transship.api.__main__",),
        ),
    )
    return services if settings.prefect.api_url else (server, *services)


def fork_server(settings: Settings, overrides: Mapping[str, str]) -> Component:
    """Return the process that imports everything that the others need, and forks them at the start."""
    environment = fork_server_environment(settings, base_environment(settings, overrides))
    return _component("fork-server", "transship.supervisor.fork_server", environment=environment)


def _flow_imports() -> tuple[str, ...]:
    flows = (definition.entrypoint.rpartition(".")[0] for definition in read_definitions(definition_file()))
    return ("transship.commands.deploy", "deployments.apply", "transship.runner.__main__", *HEAVY, *flows)


def _component(name: str, module: str, arguments: tuple[str, ...] = (), **fields: Any) -> Component:
    # -P: a directory in the working directory must not shadow one of our packages.
    argv = (sys.executable, "-P", "-m", module, *arguments)
    return Component(name, argv, module=module, arguments=arguments, **fields)
