"""copy-image: write an image that has its data to more stores."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State

from flows import beginning
from flows.copying import copy_from_best
from transship.catalog.imports import Begun
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.methods import ImportMethod


def run_name() -> str:
    """Return the run's name for lists."""
    return beginning.run_name("copy-image")


@beginning.import_flow("copy-image", run_name)
def copy_image(
    image_id: UUID,
    stores: list[str] | None = None,
    all_stores: bool = False,
    all_stores_must_succeed: bool = True,
    task_id: UUID | None = None,
    parameters_version: int = VERSION,
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
        parameters_version: Leave as it is: tells apart what releases of the service write here.
    """
    params = ImportParameters(
        ImportMethod.COPY_IMAGE,
        str(image_id),
        str(task_id or ""),
        tuple(stores) if stores else None,
        all_stores,
        all_stores_must_succeed,
        version=parameters_version,
    )
    return beginning.run_import(params, _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    return copy_from_best(begun, undo)
