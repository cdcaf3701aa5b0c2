"""Apply this version's objects and settings to a Prefect server; safe to repeat."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from config.settings import Settings
from deployments.automations import apply_automation
from deployments.change import Change
from deployments.definition import Definition, definition_file, read_definitions
from deployments.fingerprint import forget_applied, is_applied, note_applied
from deployments.flow_deployments import apply_deployment, remove_former_deployments
from deployments.pool import apply_pool, apply_queues, apply_store_limits
from deployments.store_blocks import apply_block_types, apply_store_blocks
from transship.domain.errors import ConfigurationRefused, ServiceRefused, ServiceUnreachable


def apply(
    settings: Settings, *, overwrite: bool = False, if_changed: bool = False, definitions: Path | None = None
) -> tuple[Change, ...]:
    """Create or update work pool, queues, block types, store blocks, deployments and the automation for lost runs.

    ``PREFECT_API_URL`` and ``PREFECT_API_AUTH_STRING`` name the server and must be set before
    Prefect is first imported. After an error, what was applied so far stays; applying again continues.

    Args:
        settings: all settings.
        overwrite: also overwrite store blocks and limits that were changed in the Prefect UI.
        if_changed: unless overwriting, do nothing if nothing has changed since the last apply, as far as Prefect tells.
        definitions: path of the ``prefect.yaml``; None: the product's own.

    Returns:
        What was done, in order, including unchanged objects; empty if nothing has changed.

    Raises:
        ConfigurationRefused: no Prefect API is configured, the work pool is of another type, or the definitions are
            invalid.
        ServiceUnreachable: Prefect does not answer.
        ServiceRefused: Prefect refused a request.
    """
    url = get_current_settings().api.url
    if url is None:
        raise ConfigurationRefused("environment", "PREFECT_API_URL", "is not set; name the API of the Prefect server")
    wanted = read_definitions(definitions or definition_file())
    try:
        return asyncio.run(_apply(settings, wanted, overwrite=overwrite, if_changed=if_changed))
    except PrefectHTTPStatusError as error:
        raise ServiceRefused("Prefect", error.response.status_code, _reason(error.response)) from error
    except ObjectAlreadyExists as error:
        raise ServiceRefused("Prefect", 409, "somebody else applies at the same time; apply again") from error
    except httpx.HTTPError as error:
        raise ServiceUnreachable("Prefect", url, str(error)) from error


async def _apply(
    settings: Settings, definitions: tuple[Definition, ...], *, overwrite: bool, if_changed: bool
) -> tuple[Change, ...]:
    async with get_client() as client:
        if if_changed and not overwrite and await is_applied(client, settings, definitions):
            return ()
        await forget_applied(client)
        changes = [
            await apply_pool(client, settings),
            *await apply_queues(client, settings),
            *await apply_block_types(client),
            *await apply_store_blocks(client, settings, overwrite=overwrite),
            *await apply_store_limits(client, settings, overwrite=overwrite),
        ]
        deployments = [await apply_deployment(client, one, settings.prefect.work_pool) for one in definitions]
        former = await remove_former_deployments(client, definitions, settings.prefect.work_pool)
        ids = [deployment_id for _, deployment_id in deployments]
        automation = await apply_automation(client, ids)
        await note_applied(client, settings, ids)
        return (*changes, *(change for change, _ in deployments), *former, automation)


def _reason(response: httpx.Response) -> str:
    return response.text.strip()[:500] or response.reason_phrase
