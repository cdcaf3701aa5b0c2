"""web-download: fetch a URI into staging, then deliver it."""

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
from flows.requests_by_hand import PublicUri, ShortText, form_order, form_request, new_image
from tasks.finish import finish
from tasks.stage import stage
from tasks.validate_uri import validate_uri
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun, Caller, begin_by_hand
from transship.domain.clock import utc_now
from transship.domain.import_request import ImportMethod

DiskFormat = Literal["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"]
ContainerFormat = Literal["bare", "compressed", "ovf", "ova", "docker", "ami", "ari", "aki"]


def run_name() -> str:
    """Return the run's name for lists: method, image name, beginning of the image id where there is one already."""
    given = flow_run.parameters
    label = given.get("name") or str(given.get("uri", "")).rsplit("/", 1)[-1]
    image_id = str(given.get("image_id") or "")
    return f"web-download {label} {image_id[:8]}".replace("  ", " ").rstrip()


@flow(
    name="web-download",
    flow_run_name=run_name,
    retries=0,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]  # declared for async runners too
)
def web_download(
    uri: PublicUri,
    stores: list[str] | None = None,
    all_stores: bool = False,
    disk_format: DiskFormat | None = None,
    container_format: ContainerFormat = "bare",
    name: ShortText | None = None,
    project_id: ShortText = "",
    all_stores_must_succeed: bool = True,
    image_id: UUID | None = None,
    task_id: UUID | None = None,
) -> State[Any]:
    """Import an image from a URL.

    Args:
        uri: Where the image lies, http or https. No user name, password, query or path parameters: all see them.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Write every store that can be written, instead.
        disk_format: Format of the image inside; of the inner image when it is compressed. None: asked of the data.
        container_format: Format of the container, bare for plain disks.
        name: Name of the new image. None: the last part of the URL.
        project_id: Project that will own the image.
        all_stores_must_succeed: The image becomes active only when every store was written.
        image_id: Leave empty: set by the service for imports that were asked for through the Images API.
        task_id: Leave empty: set by the service for imports that were asked for through the Images API.
    """
    run_id = str(flow_run.id)

    def by_hand(settings: Settings, catalog: Catalog) -> Begin:
        image = new_image(
            str(image_id or uuid4()),
            utc_now(),
            name=name or uri.rsplit("/", 1)[-1],
            project_id=project_id,
            disk_format=disk_format,
            container_format=container_format,
        )
        request = form_request(
            ImportMethod.WEB_DOWNLOAD,
            stores,
            settings.imports.enabled_methods,
            all_stores=all_stores,
            all_must_succeed=all_stores_must_succeed,
            uri=uri,
        )
        order = form_order(request, settings.store_facts)
        caller = Caller(project_id=project_id, roles=("admin",))
        return partial(begin_by_hand, catalog, image, order, caller)

    return carry(run_id, beginning(run_id, task_id, by_hand), _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    source = validate_uri(begun)
    staged = stage(source)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
