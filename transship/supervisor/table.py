"""The process table: what runs on one machine, in which order it starts and stops."""

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
"""A process without a health check that refuses its configuration has ended by then."""


WORKER_SETTLE_S: Final = 90.0
"""Life after which a worker counts as up although it has not said so: Prefect is slow, and it goes on trying."""


SERVER_IMPORTS: Final = ("prefect.server.api.server", "transship.runner.prefect_server", "uvicorn", "blocks")


class Stage(IntEnum):
    """Order of the start.

    The API needs no Prefect and starts beside it: what it is asked for meanwhile is kept in the outbox. The keeper
    waits for the deployments, because it ends requests for a deployment that Prefect does not know.
    """

    SERVERS = 0
    DEPLOY = 1
    IMPORTS = 2


class StopRank(IntEnum):
    """Order of the stop: imports end while what they report to still runs."""

    WORKER = 0
    API = 1
    KEEPER = 2
    PREFECT = 3


def process_table(settings: Settings, overrides: Mapping[str, str]) -> tuple[Component, ...]:
    """Return every process that the settings ask for.

    Args:
        settings: in force; the first start has been made.
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
        # It asks for no log-in.
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
            # It lets running imports end, interrupts what still runs, and waits for that.
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
    """Return the process that imports once what the others need, and forks them of itself at the start."""
    environment = fork_server_environment(settings, base_environment(settings, overrides))
    return _component("fork-server", "transship.supervisor.fork_server", environment=environment)


def _flow_imports() -> tuple[str, ...]:
    flows = (definition.entrypoint.rpartition(".")[0] for definition in read_definitions(definition_file()))
    return ("transship.commands.deploy", "deployments.apply", "transship.runner.__main__", *HEAVY, *flows)


def _component(name: str, module: str, arguments: tuple[str, ...] = (), **fields: Any) -> Component:
    # -P: a directory named like one of our packages in the working directory must not hide it.
    argv = (sys.executable, "-P", "-m", module, *arguments)
    return Component(name, argv, module=module, arguments=arguments, **fields)
