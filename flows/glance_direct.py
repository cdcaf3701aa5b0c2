"""glance-direct: import data that a client has uploaded to staging."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State

from flows import beginning
from flows.copying import place_all
from flows.pipeline import transform
from tasks.finish import finish
from tasks.take_upload import take_upload
from transship.catalog.imports import Begun
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.methods import ImportMethod


def run_name() -> str:
    """Return the run's display name."""
    return beginning.run_name("glance-direct")


@beginning.import_flow("glance-direct", run_name)
def glance_direct(
    image_id: UUID,
    stores: list[str] | None = None,
    all_stores: bool = False,
    all_stores_must_succeed: bool = True,
    task_id: UUID | None = None,
    parameters_version: int = VERSION,
) -> State[Any]:
    """Import the data that were uploaded for an image.

    The run must be on the host whose staging holds the data; a run started by hand is sent there.

    Args:
        image_id: Id of an image whose data are staged: its status is uploading.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Instead, write every writable store.
        all_stores_must_succeed: The image becomes active only when every store was written.
        task_id: Leave empty. The service sets it for imports requested through the Images API.
        parameters_version: Leave unchanged. Identifies the release of the service that wrote the parameters.
    """
    params = ImportParameters(
        ImportMethod.GLANCE_DIRECT,
        str(image_id),
        str(task_id or ""),
        tuple(stores) if stores else None,
        all_stores,
        all_stores_must_succeed,
        version=parameters_version,
    )
    return beginning.run_import(params, _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    staged = take_upload(begun)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
