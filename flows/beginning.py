"""How a flow run takes its import: the one that the service asked for, or one that a person asks for by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from config.settings import Settings
from tasks.session import process_owner
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, begin_import
from transship.domain.clock import utc_now


class Begin(Protocol):
    """Takes the lease of an import for a flow run."""

    def __call__(self, flow_run_id: str, owner: str, /, *, ttl_s: float, now: datetime) -> Begun: ...


ByHand = Callable[[Settings, Catalog], Begin]
"""What a form asks for, made when it is known that nobody else has asked for it."""


def beginning(run_id: str, task_id: UUID | None, by_hand: ByHand) -> Callable[[Settings, Catalog], Begun]:
    """Return what begins the import of a flow run.

    Args:
        run_id: Prefect's id of the run.
        task_id: the task that the service made; None: the run was started by hand.
        by_hand: what its form asks for then.
    """

    def begin(settings: Settings, catalog: Catalog) -> Begun:
        taken: Begin = partial(begin_import, catalog, str(task_id)) if task_id else by_hand(settings, catalog)
        return taken(run_id, process_owner(settings), ttl_s=settings.lease.ttl_s, now=utc_now())

    return begin
