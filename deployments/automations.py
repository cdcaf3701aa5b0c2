"""The automation that marks a run as Crashed when its process sends no heartbeats.

It is for people who look at Prefect. The lease decides what happens to the import, whatever Prefect shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.change import Action, Change
from transship.domain.task import LEFT_ALONE

NAME: Final = "Transship: runs without a sign of life"
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
SILENCE_S: Final = 120.0
"""Four heartbeats; the minimum interval that Prefect allows is 30 s."""

RELEASES: Final = frozenset(f"prefect.flow-run.{name}" for name in LEFT_ALONE)
"""Events after which a run sends no heartbeats."""

FIELDS: Final = ("description", "trigger", "actions")
"""What of an automation is this version's."""


async def apply_automation(client: PrefectClient, deployment_ids: Sequence[UUID]) -> Change:
    """Create or update the automation; whether it is enabled does not change.

    Args:
        client: for the Prefect server.
        deployment_ids: of the deployments whose runs it watches; other runs are left alone.
    """
    wanted = _wanted(deployment_ids)
    found = await client.read_automations_by_name(NAME)
    if not found:
        await client.create_automation(wanted)
        return Change("automation", NAME, Action.CREATED)
    # Another process may have applied at the same moment; Prefect allows several automations of one name.
    for surplus in found[1:]:
        await client.delete_automation(surplus.id)
    present = AutomationCore.model_validate(found[0].model_dump(exclude={"id"}))
    different = [field for field in FIELDS if _of(present, field) != _of(wanted, field)]
    if not different:
        return Change("automation", NAME, Action.UNCHANGED)
    await client.update_automation(found[0].id, wanted.model_copy(update={"enabled": present.enabled}))
    return Change("automation", NAME, Action.UPDATED, ", ".join(different))


async def has_automation(client: PrefectClient) -> bool:
    """Return whether there is one such automation, whatever it does."""
    return len(await client.read_automations_by_name(NAME)) == 1


def wanted_automation(deployment_ids: Sequence[UUID]) -> dict[str, Any]:
    """Return what this version needs of the automation, in plain values and sets."""
    wanted = _wanted(deployment_ids)
    return {field: _of(wanted, field) for field in FIELDS}


def _of(automation: AutomationCore, field: str) -> object:
    # Prefect assigns an id to each trigger. Compare sets as sets: as lists their order varies.
    found = automation.model_dump()[field]
    return {name: value for name, value in found.items() if name != "id"} if isinstance(found, dict) else found


def _wanted(deployment_ids: Sequence[UUID]) -> AutomationCore:
    watched = sorted(f"prefect.deployment.{deployment_id}" for deployment_id in deployment_ids)
    return AutomationCore(
        name=NAME,
        description="Marks a run as Crashed whose process sends no heartbeats. Transship itself goes by its leases.",
        enabled=True,
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *RELEASES},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "deployment", "prefect.resource.id": watched}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {SILENCE_S:.0f} s; the import continues in another process, or ends",
            )
        ],
    )
