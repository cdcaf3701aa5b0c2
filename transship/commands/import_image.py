"""``transship import``: create an image record, import into it, and watch until the import ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image
from transship.commands.context import GREEN, RED, YELLOW, Invocation, coloured
from transship.commands.formats import disk_format_of_file, disk_format_of_url
from transship.commands.images_api import ImagesApi, ImageView, TaskView
from transship.commands.keystone_login import images_api
from transship.commands.local_file import CHUNK_BYTES, LocalFile
from transship.commands.progress import progress_view
from transship.domain.errors import CommandRefused, ServiceUnreachable, TransshipError, human_size
from transship.domain.uri_filter import display_uri

POLL_S: Final = 0.25
RETRY_S: Final = 120.0
"""How long requests to a silent API are repeated while an import runs; it may be restarting."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The options of ``transship import``.

    Attributes:
        source: URL, or path of a local file, which is uploaded.
        name: of the image; empty: the file name.
        disk_format: empty: detected from the data.
        stores: target store ids; empty with ``all_stores`` unset: the default store.
        allow_failure: the image may become active although a store failed.
        properties: extra properties.
        image_id: empty: the service chooses.
    """

    source: str = ""
    name: str = ""
    disk_format: str = ""
    container_format: str = "bare"
    stores: tuple[str, ...] = ()
    all_stores: bool = False
    allow_failure: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    image_id: str = ""

    @property
    def local_path(self) -> Path | None:
        """Path of the file to upload; None when the source is a URL."""
        return None if "://" in self.source else Path(self.source)


def parse_properties(assignments: list[str]) -> dict[str, str]:
    """Return the properties of ``--property NAME=VALUE``.

    Raises:
        CommandRefused: one has no ``=`` or no name.
    """
    properties = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            remedy = "write NAME=VALUE, e.g. --property os_type=linux"
            raise CommandRefused(f"--property {assignment} is not an assignment", remedy)
        properties[name] = value
    return properties


def import_image(invocation: Invocation, options: ImportOptions) -> int:
    """Import one image; return 0 when it is active, else 1.

    Raises:
        CommandRefused: the options contradict each other, the file cannot be read, or the disk format is neither
            given nor detectable.
        SourceNotAccepted, RedirectRefused: the URL must not be imported from; found while detecting the format.
        ServiceRefused, ServiceUnreachable: as `ImagesApi`; the new image record is deleted again.
    """
    if not options.source:
        raise CommandRefused("no source was given", "name a URL or a local file")
    if options.stores and options.all_stores:
        raise CommandRefused("--store and --all-stores exclude each other", "use one of them")
    settings = invocation.settings
    api = images_api(settings)
    path = options.local_path
    file = LocalFile.at(path) if path else None
    disk_format = options.disk_format or _asked_of_data(settings, options, file)
    image = api.create(record_of(options, file.path.as_uri() if file else options.source, disk_format))
    try:
        if file:
            print(f"image {image.id}: uploading {file.path}", flush=True)
            _upload(api, image.id, file)
        api.start_import(image.id, request_of(options, "" if file else options.source))
    except (TransshipError, KeyboardInterrupt):
        api.delete(image.id)
        raise
    print(f"image {image.id}: importing {file.path if file else display_uri(options.source)}", flush=True)
    try:
        task = _watch(api, image.id)
    except KeyboardInterrupt:
        print(f"\nstopped watching; the import of image {image.id} continues: 'transship images' shows its state")
        return 130
    return _report(settings, api.image(image.id), task, file, disk_format)


def _asked_of_data(settings: Settings, options: ImportOptions, file: LocalFile | None) -> str:
    if file is not None:
        return disk_format_of_file(file.path, settings, options.container_format)
    return disk_format_of_url(options.source, settings, options.container_format)


def record_of(options: ImportOptions, uri: str, disk_format: str) -> dict[str, object]:
    """Return the attributes of the new image record."""
    attributes: dict[str, object] = {
        **options.properties,
        "name": options.name or _file_name(uri),
        "disk_format": disk_format,
        "container_format": options.container_format,
    }
    return {**attributes, "id": options.image_id} if options.image_id else attributes


def request_of(options: ImportOptions, uri: str) -> dict[str, object]:
    """Return the body of the import request.

    Args:
        uri: where the data come from; empty when they were uploaded.
    """
    request: dict[str, object] = {
        "method": {"name": "web-download", "uri": uri} if uri else {"name": "glance-direct"},
        "all_stores_must_succeed": not options.allow_failure,
    }
    if options.all_stores:
        request["all_stores"] = True
    elif options.stores:
        request["stores"] = list(options.stores)
    return request


def _upload(api: ImagesApi, image_id: str, file: LocalFile) -> None:
    """Upload a file, and show the progress.

    Raises:
        CommandRefused: it can no longer be read.
    """
    began = time.monotonic()

    def pieces() -> Iterator[bytes]:
        sent_bytes = 0
        with file.path.open("rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
                sent_bytes += len(piece)
                rate = int(sent_bytes / max(time.monotonic() - began, 0.001))
                view.show(TaskView("", "processing", "", "upload", sent_bytes, file.size, rate))

    with progress_view() as view:
        try:
            api.stage(image_id, pieces(), file.size)
        except OSError as error:
            raise CommandRefused(f"{file.path} cannot be read: {error.strerror}") from error


def _watch(api: ImagesApi, image_id: str) -> TaskView:
    deadline = time.monotonic() + RETRY_S
    with progress_view() as view:
        while True:
            try:
                task = api.latest_task(image_id)
                deadline = time.monotonic() + RETRY_S
            except ServiceUnreachable:
                if time.monotonic() >= deadline:
                    raise
                task = None
            if task is not None:
                view.show(task)
                if task.final:
                    return task
            time.sleep(POLL_S)


def _report(settings: Settings, image: ImageView, task: TaskView, file: LocalFile | None, asked_format: str) -> int:
    if task.status != "success" or image.status != "active":
        reason = task.message or image.message or f"the image is {image.status}"
        print(coloured(f"error: {reason}", RED))
        print(f"image {image.id} is {image.status}")
        return 1
    rows = {
        "image": image.id,
        "name": image.name,
        "status": coloured(image.status, GREEN),
        "disk format": image.disk_format,
        "size": _size(image.size),
        "virtual size": _size(image.virtual_size),
        image.hash_algorithm: image.hash_value,
        "stores": ", ".join(image.stores),
    }
    for label, value in rows.items():
        print(f"{label:<13} {value}")
    for store, url in (image.locations or _locations(settings, image.id)).items():
        print(f"{'location':<13} {store}: {url}")
    for store in image.failed_stores:
        print(coloured(f"warning: store {store} does not have the image ({task.message})", YELLOW))
    return _compare(image, file, asked_format) if file else 0


def _compare(image: ImageView, file: LocalFile, asked_format: str) -> int:
    """Report whether the stored data equal the file; return 1 if they should and do not."""
    if image.size != file.size or image.disk_format != asked_format:
        print("the stored data were unpacked or converted, so their digest differs from the file's")
        return 0
    if image.hash_value == file.digest(image.hash_algorithm):
        print(f"{image.hash_algorithm} matches the source")
        return 0
    print(
        coloured(f"error: {image.hash_algorithm} does not match the source; check whether {file.path} has changed", RED)
    )
    return 1


def _locations(settings: Settings, image_id: str) -> Mapping[str, str]:
    """Return the locations from the catalogue if this machine has it; the API does not show them."""
    try:
        catalog = Catalog.open(settings)
    except TransshipError:
        return {}
    try:
        with catalog.read() as connection:
            return {location.store: location.url for location in get_image(connection, image_id).locations}
    except TransshipError:
        return {}
    finally:
        catalog.close()


def _file_name(uri: str) -> str:
    if uri.startswith("file:"):
        return unquote(uri.rpartition("/")[2])
    return unquote(display_uri(uri).rpartition("/")[2]) or display_uri(uri)


def _size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes} bytes ({human_size(size_bytes)})"
