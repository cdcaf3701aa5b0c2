"""The deployments of flows, equal to those that ``prefect deploy --all`` creates from the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentScheduleUpdate, DeploymentUpdate
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
from deployments.definition import FILE_NAME, Definition, Schedule
from transship.domain.errors import ConfigurationRefused

SCHEDULES: Final = "schedules"


async def apply_deployment(client: PrefectClient, definition: Definition, work_pool: str) -> tuple[Change, UUID]:
    """Create or update one deployment from its definition; return what was done, and the deployment's id.

    Operators' edits in the UI are kept: default parameters, job variables, limits, pauses, and
    whether a schedule is enabled.

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
    different = _differing(found, wanted, definition)
    if not different:
        return Change("deployment", name, Action.UNCHANGED), found.id
    update = dict(wanted, version_info=_version_info(flow))
    if SCHEDULES in different:
        update["schedules"] = [
            DeploymentScheduleUpdate(schedule=_cron(schedule), active=schedule.active)
            for schedule in definition.schedules
        ]
    await client.update_deployment(found.id, DeploymentUpdate.model_validate(update))
    return Change("deployment", name, Action.UPDATED, ", ".join(different)), found.id


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
        if one is None or _differing(one, wanted, definition):
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
            DeploymentScheduleCreate(schedule=_cron(schedule), active=schedule.active)
            for schedule in definition.schedules
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


def _differing(found: DeploymentResponse, wanted: Mapping[str, Any], definition: Definition) -> list[str]:
    present = found.model_dump(mode="json", include=set(wanted))
    different = sorted(name for name, value in wanted.items() if present[name] != value)
    times = {(schedule.cron, schedule.timezone) for schedule in definition.schedules}
    return different if _times(found) == times else [*different, SCHEDULES]


def _times(found: DeploymentResponse) -> set[tuple[str, str | None]]:
    crons = [one.schedule for one in found.schedules if isinstance(one.schedule, CronSchedule)]
    if len(crons) != len(found.schedules):
        return {("", None)}  # schedules of other kinds differ from ours
    return {(cron.cron, cron.timezone) for cron in crons}


def _cron(schedule: Schedule) -> CronSchedule:
    return CronSchedule(cron=schedule.cron, timezone=schedule.timezone)


def _version_info(flow: Flow[..., Any]) -> VersionInfo:
    return VersionInfo(type="prefect:simple", version=flow.version or "")
