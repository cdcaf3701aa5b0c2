"""Global concurrency limits: how many copies all hosts together write to a store at the same time."""

from __future__ import annotations

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound

from config.settings import Settings, store_limit_name
from deployments.change import Action, Change


async def apply_store_limits(client: PrefectClient, settings: Settings, *, overwrite: bool) -> tuple[Change, ...]:
    """Create the limit of each store that the settings limit; change existing limits only with ``overwrite``."""
    limits = wanted_limits(settings)
    return tuple([await _apply_limit(client, name, slots, overwrite=overwrite) for name, slots in limits.items()])


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
