"""The work pool in which imports run, and its queues."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from config.settings import Settings
from deployments.change import Action, Change
from transship.domain.errors import ConfigurationRefused

DEFAULT_QUEUE = "default"
"""Queue of runs that any host may take; Prefect makes it with the pool."""


def host_queue(settings: Settings) -> str:
    """Return the name of the queue whose runs only this host takes, for what lies in its staging."""
    return f"host-{settings.host_name}"


def base_job_template() -> dict[str, Any]:
    """Return the job variables of the pool: those that a run in a fresh interpreter may need.

    ``command`` has no default: all hosts share the template, and their interpreters may stand in different places.
    Each worker of ours puts its own there; Prefect's process worker starts one interpreter that starts another one,
    which costs seconds per import.
    What else the process worker knows is left out, because Prefect's server checks every variable whenever it
    makes a run: with six of them a run costs it a third more than with these.
    """
    return {
        "job_configuration": {name: f"{{{{ {name} }}}}" for name in ("command", "env", "working_dir")},
        "variables": {
            "type": "object",
            "properties": {
                "command": {
                    "type": "string",
                    "title": "Command",
                    "description": "Command that runs a flow, slowly; none: the worker's own interpreter.",
                },
                "env": {
                    "type": "object",
                    "title": "Environment variables",
                    "description": "Variables set for the flow besides those of the worker; such a run starts slowly.",
                    "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "working_dir": {
                    "anyOf": [{"type": "string", "format": "path"}, {"type": "null"}],
                    "default": None,
                    "title": "Working directory",
                    "description": "Directory in which the flow is started; none: a temporary one.",
                },
            },
        },
    }


async def apply_pool(client: PrefectClient, settings: Settings) -> Change:
    """Make the work pool and its job template what this version needs; limits, pause and description stay.

    Raises:
        ConfigurationRefused: a pool of that name exists for workers of another type.
    """
    name = settings.prefect.work_pool
    template = base_job_template()
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        return Change("work pool", name, Action.CREATED)
    if pool.type != "process":
        reason = f"work pool {name} is of type {pool.type}; choose another name, or delete that pool"
        raise ConfigurationRefused("configuration", "prefect.work_pool", reason)
    if pool.base_job_template == template:
        return Change("work pool", name, Action.UNCHANGED)
    await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return Change("work pool", name, Action.UPDATED, "job template")


async def apply_queues(client: PrefectClient, settings: Settings) -> tuple[Change, ...]:
    """Make the queues that workers of this host take runs from; their limits, priorities and pauses stay."""
    return tuple(
        [await _apply_queue(client, settings.prefect.work_pool, name) for name in (DEFAULT_QUEUE, host_queue(settings))]
    )


async def _apply_queue(client: PrefectClient, pool: str, name: str) -> Change:
    try:
        await client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        await client.create_work_queue(name, work_pool_name=pool)
        return Change("work queue", f"{pool}/{name}", Action.CREATED)
    return Change("work queue", f"{pool}/{name}", Action.UNCHANGED)
