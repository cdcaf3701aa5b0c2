"""The automation that marks runs as Crashed whose process went silent.

It is for people who look at Prefect. What becomes of the import is decided by its lease, whatever Prefect shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
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
"""Four heartbeats: the least interval that Prefect allows is 30 s."""

RELEASES: Final = frozenset(f"prefect.flow-run.{name}" for name in LEFT_ALONE)
"""Events after which a run owes no heartbeat."""


async def apply_automation(client: PrefectClient, deployment_ids: Sequence[UUID]) -> Change:
    """Make the automation what this version needs, once; whether it is switched on stays.

    Args:
        client: of the Prefect server.
        deployment_ids: of the deployments whose runs it watches; runs of others are left alone.
    """
    wanted = _wanted(deployment_ids)
    found = await client.read_automations_by_name(NAME)
    if not found:
        await client.create_automation(wanted)
        return Change("automation", NAME, Action.CREATED)
    # Somebody else may have applied at the same moment; Prefect does not keep names apart.
    for surplus in found[1:]:
        await client.delete_automation(surplus.id)
    present = AutomationCore.model_validate(found[0].model_dump(exclude={"id"}))
    different = [field for field in ("description", "trigger", "actions") if _of(present, field) != _of(wanted, field)]
    if not different:
        return Change("automation", NAME, Action.UNCHANGED)
    await client.update_automation(found[0].id, wanted.model_copy(update={"enabled": present.enabled}))
    return Change("automation", NAME, Action.UPDATED, ", ".join(different))


def _of(automation: AutomationCore, field: str) -> object:
    # Prefect gives each trigger an id of its own. Sets are compared as sets: as lists they have any order.
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
