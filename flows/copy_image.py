"""copy-image: write an image that has its data to more stores."""

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
from flows.copying import copy_from_best
from flows.requests_by_hand import form_request
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, begin_copy_by_hand
from transship.domain.import_request import ImportMethod


def run_name() -> str:
    """Return the run's name for lists: method and beginning of the image id."""
    return f"copy-image {str(flow_run.parameters.get('image_id') or '')[:8]}".rstrip()


@flow(
    name="copy-image",
    flow_run_name=run_name,
    retries=0,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]  # declared for async runners too
)
def copy_image(
    image_id: UUID,
    stores: list[str] | None = None,
    all_stores: bool = False,
    all_stores_must_succeed: bool = True,
    task_id: UUID | None = None,
) -> State[Any]:
    """Copy an active image to more stores.

    The image stays active and its owner stays the same; plugins do not run. The data come from the store that is
    best to read, and their digests are compared with the image's before anybody sees a copy.

    Args:
        image_id: Id of the image.
        stores: Ids of the stores to write; none of them may hold the image yet. None: the default store.
        all_stores: Write every store that does not hold the image yet, instead.
        all_stores_must_succeed: When a store fails, take the new copies in the others back.
        task_id: Leave empty: set by the service for copies that were asked for through the Images API.
    """
    run_id = str(flow_run.id)

    def by_hand(settings: Settings, catalog: Catalog) -> Begin:
        request = form_request(
            ImportMethod.COPY_IMAGE,
            stores,
            settings.imports.enabled_methods,
            all_stores=all_stores,
            all_must_succeed=all_stores_must_succeed,
        )
        caller = Caller(roles=("admin",))
        return partial(begin_copy_by_hand, catalog, str(image_id), request, settings.store_facts, caller)

    return carry(run_id, beginning(run_id, task_id, by_hand), _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    return copy_from_best(begun, undo)
