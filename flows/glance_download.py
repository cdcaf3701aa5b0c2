"""glance-download: fetch the data of an image of another Glance into staging, then deliver them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from config.settings import Settings
from flows.beginning import Begin, beginning
from flows.carrying import carry
from flows.copying import place_all
from flows.pipeline import transform
from flows.requests_by_hand import ShortText, form_order, form_request, new_image
from tasks.finish import finish
from tasks.read_remote import read_remote
from tasks.stage import stage
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, begin_by_hand
from transship.domain.clock import utc_now
from transship.domain.import_request import ImportMethod
from transship.domain.remote import RemoteImage

Interface = Literal["public", "internal", "admin"]


def run_name() -> str:
    """Return the run's name for lists: method, image name, beginning of the image id where there is one already."""
    given = flow_run.parameters
    label = given.get("name") or f"from {given.get('glance_region', '')}"
    image_id = str(given.get("image_id") or "")
    return f"glance-download {label} {image_id[:8]}".rstrip()


@flow(
    name="glance-download",
    flow_run_name=run_name,
    retries=0,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]  # declared for async runners too
)
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
) -> State[Any]:
    """Import an image of another Glance, with its formats and the properties that the site takes over.

    Args:
        glance_region: Region of that Glance. For runs by hand one that the settings name under remotes.
        glance_image_id: Id of the image there.
        glance_service_interface: Which of the region's endpoints to use. Regions of the settings have one URL alone.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Write every store that can be written, instead.
        name: Name of the new image. None: its id in the other Glance.
        project_id: Project that will own the image.
        all_stores_must_succeed: The image becomes active only when every store was written.
        image_id: Leave empty: set by the service for imports that were asked for through the Images API.
        task_id: Leave empty: set by the service for imports that were asked for through the Images API.
    """
    run_id = str(flow_run.id)

    def by_hand(settings: Settings, catalog: Catalog) -> Begin:
        remote = RemoteImage(str(glance_image_id), glance_region, glance_service_interface)
        image = new_image(str(image_id or uuid4()), utc_now(), name=name or remote.image_id, project_id=project_id)
        request = form_request(
            ImportMethod.GLANCE_DOWNLOAD,
            stores,
            settings.imports.enabled_methods,
            all_stores=all_stores,
            all_must_succeed=all_stores_must_succeed,
            remote=remote,
        )
        order = form_order(request, settings.store_facts)
        caller = Caller(project_id=project_id, roles=("admin",))
        return partial(begin_by_hand, catalog, image, order, caller)

    return carry(run_id, beginning(run_id, task_id, by_hand), _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    source = read_remote(begun)
    staged = stage(source)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
