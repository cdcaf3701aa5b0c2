"""What was applied last, noted in Prefect: a start that finds the same there need not apply it again.

The note tells what this version and these settings need. What somebody may delete or edit in Prefect's UI is looked up
beside it: deployments and the job template are compared, the other objects must exist. The note is removed before
anything is applied and written when everything was.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import prefect
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from config.settings import Settings
from deployments.automations import has_automation, wanted_automation
from deployments.definition import Definition
from deployments.flow_deployments import unchanged_deployments
from deployments.pool import base_job_template, has_pool, has_store_limits, wanted_limits
from deployments.store_blocks import has_store_blocks, wanted_block_types, wanted_blocks

APPLIED_VARIABLE: Final = "transship_applied"
"""Prefect variable: the fingerprint of what was applied last."""


async def is_applied(client: PrefectClient, settings: Settings, definitions: Sequence[Definition]) -> bool:
    """Return whether Prefect holds what would be applied.

    Raises:
        ConfigurationRefused: there is no such flow.
    """
    ids, noted, *present = await asyncio.gather(
        unchanged_deployments(client, definitions, settings.prefect.work_pool),
        client.read_variable_by_name(APPLIED_VARIABLE),
        has_pool(client, settings),
        has_store_blocks(client, settings),
        has_store_limits(client, settings),
        has_automation(client),
    )
    return ids is not None and noted is not None and all(present) and noted.value == fingerprint(settings, ids)


async def forget_applied(client: PrefectClient) -> None:
    """Remove the note: what Prefect holds is about to change."""
    with suppress(ObjectNotFound):
        await client.delete_variable_by_name(APPLIED_VARIABLE)


async def note_applied(client: PrefectClient, settings: Settings, deployment_ids: Sequence[UUID]) -> None:
    """Note that everything was applied, unless somebody else applies at the same time: the next start does it again."""
    variable = VariableCreate(name=APPLIED_VARIABLE, value=fingerprint(settings, deployment_ids), tags=["transship"])
    try:
        await client.create_variable(variable)
    except ObjectAlreadyExists:
        await forget_applied(client)


def fingerprint(settings: Settings, deployment_ids: Sequence[UUID]) -> str:
    """Return the SHA-256 of all that is applied beside the deployments.

    Args:
        settings: all settings.
        deployment_ids: of the deployments, in the order of their definitions.
    """
    wanted = {
        "prefect": prefect.__version__,
        "work pool": [settings.prefect.work_pool, base_job_template()],
        "block types": wanted_block_types(),
        "store blocks": wanted_blocks(settings),
        "limits": wanted_limits(settings),
        "deployments": deployment_ids,
        "automation": wanted_automation(deployment_ids),
    }
    return hashlib.sha256(json.dumps(wanted, default=_plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
