"""web-download: download a URI to staging, then import it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows import beginning
from flows.copying import place_all
from flows.pipeline import transform
from flows.requests_by_hand import PublicUri, ShortText
from tasks.finish import finish
from tasks.stage import stage
from tasks.validate_uri import validate_uri
from transship.catalog.imports import Begun
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.methods import ImportMethod

DiskFormat = Literal["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"]
ContainerFormat = Literal["bare", "compressed", "ovf", "ova", "docker", "ami", "ari", "aki"]


def run_name() -> str:
    """Return the run's display name."""
    given = flow_run.parameters
    return beginning.run_name("web-download", given.get("name") or str(given.get("uri", "")).rsplit("/", 1)[-1])


@beginning.import_flow("web-download", run_name)
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
    parameters_version: int = VERSION,
) -> State[Any]:
    """Import an image from a URL.

    Args:
        uri: The image's http or https URL. No user name, password, query or path parameters: everyone can see them.
        stores: Ids of the stores to write. None: the default store.
        all_stores: Instead, write every writable store.
        disk_format: Format of the disk image; if it is compressed, of the image inside. None: detected from the data.
        container_format: Format of the container; bare for plain disks.
        name: Name of the new image. None: the last part of the URL.
        project_id: Project that will own the image.
        all_stores_must_succeed: The image becomes active only when every store was written.
        image_id: Leave empty. The service sets it for imports requested through the Images API.
        task_id: Leave empty. The service sets it for imports requested through the Images API.
        parameters_version: Leave unchanged. Identifies the release of the service that wrote the parameters.
    """
    params = ImportParameters(
        ImportMethod.WEB_DOWNLOAD,
        str(image_id or ""),
        str(task_id or ""),
        tuple(stores) if stores else None,
        all_stores,
        all_stores_must_succeed,
        name=name or uri.rsplit("/", 1)[-1],
        project_id=project_id,
        uri=uri,
        disk_format=disk_format,
        container_format=container_format,
        version=parameters_version,
    )
    return beginning.run_import(params, _steps)


def _steps(begun: Begun, undo: ExitStack) -> str:
    source = validate_uri(begun)
    staged = stage(source)
    final = transform(staged, begun.roles)
    copies = place_all(begun, final, undo)
    return finish(begun, final, copies)
