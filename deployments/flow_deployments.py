"""The deployments of flows, equal to those that ``prefect deploy --all`` creates from the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import VersionInfo
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import MissingFlowError, ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from deployments.change import Action, Change
from deployments.definition import FILE_NAME, Definition
from transship.domain.errors import ConfigurationRefused

FORMER_NAME: Final = "transship"
"""What former releases called the deployment of every flow."""


async def apply_deployment(client: PrefectClient, definition: Definition, work_pool: str) -> tuple[Change, UUID]:
    """Create or update one deployment from its definition; return what was done, and the deployment's id.

    Operators' edits in the UI are kept: default parameters, job variables, limits, pauses, and schedules.

    Raises:
        ConfigurationRefused: there is no such flow.
    """
    flow = _flow(definition.entrypoint)
    name = f"{flow.name}/{definition.name}"
    wanted = _wanted(definition, flow, work_pool)
    try:
        found = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        return Change("deployment", name, Action.CREATED), await _create(client, definition, flow, wanted)
    different = _differing(found, wanted)
    if not different:
        return Change("deployment", name, Action.UNCHANGED), found.id
    update = dict(wanted, version_info=_version_info(flow))
    await client.update_deployment(found.id, DeploymentUpdate.model_validate(update))
    return Change("deployment", name, Action.UPDATED, ", ".join(different)), found.id


async def remove_former_deployments(
    client: PrefectClient, definitions: Sequence[Definition], work_pool: str
) -> tuple[Change, ...]:
    """Remove the deployments of former releases with their schedules and waiting runs.

    The keeper creates the waiting runs of imports again.
    """
    found = await client.read_deployments(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[FORMER_NAME])),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool])),
    )
    flows = {one.entrypoint: _flow(one.entrypoint).name for one in definitions if one.name != FORMER_NAME}
    former = [one for one in found if one.entrypoint in flows]
    for one in former:
        await client.delete_deployment(one.id)
    return tuple(Change("deployment", f"{flows[str(one.entrypoint)]}/{one.name}", Action.REMOVED) for one in former)


async def unchanged_deployments(
    client: PrefectClient, definitions: Sequence[Definition], work_pool: str
) -> list[UUID] | None:
    """Return the ids of all deployments, read in one request; None unless each one is what its definition says.

    Raises:
        ConfigurationRefused: there is no such flow.
    """
    names = sorted({definition.name for definition in definitions})
    found = await client.read_deployments(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=names)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool])),
    )
    present = {(one.name, one.entrypoint): one for one in found}
    ids = []
    for definition in definitions:
        one = present.get((definition.name, definition.entrypoint))
        wanted = _wanted(definition, _flow(definition.entrypoint), work_pool)
        if one is None or _differing(one, wanted):
            return None
        ids.append(one.id)
    return ids


def _flow(entrypoint: str) -> Flow[..., Any]:
    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except (ImportError, MissingFlowError) as error:
        raise ConfigurationRefused(FILE_NAME, f"entrypoint {entrypoint}", str(error)) from error


async def _create(
    client: PrefectClient, definition: Definition, flow: Flow[..., Any], wanted: Mapping[str, Any]
) -> UUID:
    return await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=definition.name,
        version_info=_version_info(flow),
        schedules=[
            DeploymentScheduleCreate(schedule=CronSchedule(cron=each.cron, timezone=each.timezone), active=each.active)
            for each in definition.schedules
        ],
        **wanted,
    )


def _wanted(definition: Definition, flow: Flow[..., Any], work_pool: str) -> dict[str, Any]:
    return {
        "entrypoint": definition.entrypoint,
        "version": flow.version,
        "description": flow.description,
        "tags": list(definition.tags),
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "enforce_parameter_schema": definition.enforce_parameter_schema,
        "work_pool_name": work_pool,
        "work_queue_name": definition.work_pool.work_queue_name,
        "pull_steps": [],
    }


def _differing(found: DeploymentResponse, wanted: Mapping[str, Any]) -> list[str]:
    present = found.model_dump(mode="json", include=set(wanted))
    return sorted(name for name, value in wanted.items() if present[name] != value)


def _version_info(flow: Flow[..., Any]) -> VersionInfo:
    return VersionInfo(type="prefect:simple", version=flow.version or "")
