"""The work pool in which imports run, its queues, and how many copies all hosts together write to a store."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound

from config.settings import Settings, store_limit_name
from deployments.change import Action, Change
from transship.domain.errors import ConfigurationRefused

DEFAULT_QUEUE = "default"
"""Queue of runs that any host may take; Prefect creates it with the pool."""


def host_queue(settings: Settings) -> str:
    """Return the name of the queue whose runs only this host takes, because they need its staging."""
    return f"host-{settings.host_name}"


def base_job_template() -> dict[str, Any]:
    """Return the pool's job template, with the variables that a run in a fresh interpreter may need.

    ``command`` has no default: all hosts share the template, but their interpreters may have different paths.
    Each of our workers fills in its own. Prefect's process worker would start one interpreter that starts another,
    which costs seconds per import.
    The process worker's other variables are left out because Prefect's server checks every variable whenever it
    creates a run: with six variables a run costs the server a third more than with these three.
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
    """Create or update the work pool and its job template; limits, pause and description do not change.

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
        reason, remedy = f"work pool {name} is of type {pool.type}", "choose another name, or delete that pool"
        raise ConfigurationRefused("configuration", "prefect.work_pool", reason, remedy)
    if pool.base_job_template == template:
        return Change("work pool", name, Action.UNCHANGED)
    await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return Change("work pool", name, Action.UPDATED, "job template")


async def has_pool(client: PrefectClient, settings: Settings) -> bool:
    """Return whether the work pool has this version's job template."""
    try:
        pool = await client.read_work_pool(settings.prefect.work_pool)
    except ObjectNotFound:
        return False
    return pool.base_job_template == base_job_template()


async def apply_queues(client: PrefectClient, settings: Settings) -> tuple[Change, ...]:
    """Create the queues that this host's workers take runs from; limits, priorities and pauses do not change."""
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


async def apply_store_limits(client: PrefectClient, settings: Settings, *, overwrite: bool) -> tuple[Change, ...]:
    """Create the limit of each store that the settings limit; change existing limits only with ``overwrite``."""
    limits = wanted_limits(settings)
    return tuple([await _apply_limit(client, name, slots, overwrite=overwrite) for name, slots in limits.items()])


async def has_store_limits(client: PrefectClient, settings: Settings) -> bool:
    """Return whether each limit exists, with any number of slots."""
    try:
        await asyncio.gather(*map(client.read_global_concurrency_limit_by_name, wanted_limits(settings)))
    except ObjectNotFound:
        return False
    return True


def wanted_limits(settings: Settings) -> dict[str, int]:
    """Return the slots of each limit by its name."""
    return {store_limit_name(store): slots for store, slots in settings.imports.store_slots.items()}


async def _apply_limit(client: PrefectClient, name: str, slots: int, *, overwrite: bool) -> Change:
    try:
        found = await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
        return Change("limit", name, Action.CREATED, f"{slots} at the same time")
    if found.limit == slots:
        return Change("limit", name, Action.UNCHANGED)
    if not overwrite:
        return Change("limit", name, Action.KEPT, f"{found.limit} at the same time")
    await client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=slots))
    return Change("limit", name, Action.UPDATED, f"{slots} at the same time")
