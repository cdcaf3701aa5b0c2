"""copy-image: copy an active image to more stores."""

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
    """Return the run's display name."""
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

    The image stays active and keeps its owner; plugins do not run. The data are read from the readable store with the
    highest weight, and their digests are compared with the image's before a copy becomes visible.

    Args:
        image_id: Id of the image.
        stores: Ids of the stores to write; none of them may hold the image yet. None: the default store.
        all_stores: Instead, write every store that does not hold the image yet.
        all_stores_must_succeed: If a store fails, remove the new copies from the others.
        task_id: Leave empty. The service sets it for copies requested through the Images API.
        parameters_version: Leave unchanged. Identifies the release of the service that wrote the parameters.
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
