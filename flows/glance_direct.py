"""glance-direct: deliver what a client has uploaded to staging."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from config.settings import Settings
from flows.beginning import Begin, beginning
from flows.carrying import carry
from flows.copying import place_all
from flows.pipeline import transform
from flows.requests_by_hand import form_order, form_request
from tasks.finish import finish
from tasks.take_upload import take_upload
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, begin_upload_by_hand
from transship.domain.import_request import ImportMethod


def run_name() -> str:
    """Return the run's name for lists: method and beginning of the image id."""
    return f"glance-direct {str(flow_run.parameters.get('image_id') or '')[:8]}".rstrip()


@flow(
    name="glance-direct",
    flow_run_name=run_name,
    retries=0,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]  # declared for async runners too
)
def glance_direct(
    image_id: UUID,
    stores: list[str] | None = None,
    all_stores: bool = False,
    all_stores_must_succeed: bool = True,
    task_id: UUID | None = None,
) -> State[Any]:
    """Import the data that were uploaded for an image.

    The run has to be carried by the host whose staging holds the data; started by hand it finds its way there.

    Args:
        image_id: Id of an image whose data are staged: its status is uploading.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Write every store that can be written, instead.
        all_stores_must_succeed: The image becomes active only when every store was written.
        task_id: Leave empty: set by the service for imports that were asked for through the Images API.
    """
    run_id = str(flow_run.id)

    def by_hand(settings: Settings, catalog: Catalog) -> Begin:
        request = form_request(
            ImportMethod.GLANCE_DIRECT,
            stores,
            settings.imports.enabled_methods,
            all_stores=all_stores,
            all_must_succeed=all_stores_must_succeed,
        )
        order = form_order(request, settings.store_facts, str(image_id))
        caller = Caller(roles=("admin",))
        return partial(begin_upload_by_hand, catalog, str(image_id), order, caller, host=settings.host_name)

    return carry(run_id, beginning(run_id, task_id, by_hand), _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    staged = take_upload(begun)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
