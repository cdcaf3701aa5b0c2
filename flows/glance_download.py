"""glance-download: download an image's data from another Glance to staging, then import them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows import beginning
from flows.copying import place_all
from flows.pipeline import transform
from flows.requests_by_hand import ShortText
from tasks.finish import finish
from tasks.read_remote import read_remote
from tasks.stage import stage
from transship.catalog.imports import Begun
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.methods import ImportMethod
from transship.domain.remote import RemoteImage

Interface = Literal["public", "internal", "admin"]


def run_name() -> str:
    """Return the run's display name."""
    given = flow_run.parameters
    return beginning.run_name("glance-download", given.get("name") or f"from {given.get('glance_region', '')}")


@beginning.import_flow("glance-download", run_name)
def glance_download(
    glance_region: str,
    glance_image_id: UUID,
    glance_service_interface: Interface = "public",
    stores: list[str] | None = None,
    all_stores: bool = False,
    name: ShortText | None = None,
    project_id: ShortText = "",
    all_stores_must_succeed: bool = True,
    image_id: UUID | None = None,
    task_id: UUID | None = None,
    parameters_version: int = VERSION,
) -> State[Any]:
    """Import an image from another Glance, with its formats and the properties that the site is configured to copy.

    Args:
        glance_region: Region of that Glance. Runs by hand need a region from the settings' remotes.
        glance_image_id: Id of the image there.
        glance_service_interface: Which of the region's endpoints to use. Regions from the settings have a single URL.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Instead, write every writable store.
        name: Name of the new image. None: its id in the other Glance.
        project_id: Project that will own the image.
        all_stores_must_succeed: The image becomes active only when every store was written.
        image_id: Leave empty. The service sets it for imports requested through the Images API.
        task_id: Leave empty. The service sets it for imports requested through the Images API.
        parameters_version: Leave unchanged. Identifies the release of the service that wrote the parameters.
    """
    params = ImportParameters(
        ImportMethod.GLANCE_DOWNLOAD,
        str(image_id or ""),
        str(task_id or ""),
        tuple(stores) if stores else None,
        all_stores,
        all_stores_must_succeed,
        name=name or str(glance_image_id),
        project_id=project_id,
        remote=RemoteImage(str(glance_image_id), glance_region, glance_service_interface),
        version=parameters_version,
    )
    return beginning.run_import(params, _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    source = read_remote(begun)
    staged = stage(source)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
