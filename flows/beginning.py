"""How a flow run begins its import: one requested from the service, or one started by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, ParamSpec, Protocol

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from config.settings import Settings
from flows.carrying import Steps, carry
from flows.requests_by_hand import form_access, form_request, new_image
from tasks.session import process_owner
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, begin_by_hand, begin_import
from transship.domain.clock import utc_now
from transship.domain.errors import ParametersUnknown
from transship.domain.import_parameters import VERSION, ImportParameters

P = ParamSpec("P")


class Begin(Protocol):
    """Takes the lease of an import for a flow run."""

    def __call__(self, flow_run_id: str, owner: str, /, *, ttl_s: float, now: datetime) -> Begun: ...


def import_flow(name: str, run_name: Callable[[], str]) -> Callable[[Callable[P, State[Any]]], Flow[P, State[Any]]]:
    """Make a function the flow of an import method."""
    return flow(
        name=name,
        flow_run_name=run_name,
        retries=0,
        persist_result=False,
        task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]  # declared for async runners too
    )


def run_name(method: str, label: str = "") -> str:
    """Return the run's display name: method, label, and the beginning of the image id if there is one already.

    A run for a request of the Images API keeps the name that it was created with, which has the image's name.
    """
    if flow_run.parameters.get("task_id"):
        return str(flow_run.name)
    image_id = str(flow_run.parameters.get("image_id") or "")
    return f"{method} {label} {image_id[:8]}".replace("  ", " ").rstrip()


def run_import(params: ImportParameters, steps: Steps) -> State[Any]:
    """Begin the import that a run's parameters name or request, and carry it out; see `carry`."""
    run_id = str(flow_run.id)
    return carry(run_id, partial(begin, params, run_id), steps)


def begin(params: ImportParameters, run_id: str, settings: Settings, catalog: Catalog) -> Begun:
    """Begin the import of a flow run in this process.

    Args:
        run_id: Prefect's id of the run.

    Raises:
        ParametersUnknown: another release wrote the parameters; nothing was changed.
        Superseded: there is nothing to do.
        RequestRefused: a request by hand cannot be carried out; nothing was changed.
    """
    if params.version != VERSION:
        raise ParametersUnknown(params.version, VERSION)
    taken: Begin = (
        partial(begin_import, catalog, params.task_id) if params.task_id else _by_hand(params, settings, catalog)
    )
    return taken(run_id, process_owner(settings), ttl_s=settings.lease.ttl_s, now=utc_now())


def _by_hand(params: ImportParameters, settings: Settings, catalog: Catalog) -> Begin:
    return partial(
        begin_by_hand,
        catalog,
        new_image(params, utc_now()) if params.method.facts.makes_image else params.image_id,
        form_request(params, settings.imports.enabled_methods),
        settings.store_facts,
        Caller(project_id=params.project_id, roles=("admin",)),
        host=settings.host_name,
        access=form_access(params.remote),
    )
