"""``transship import``: create an image record, import into it, and watch until the import ends."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from config.settings import Settings
from transship.commands.context import RED, Invocation, coloured
from transship.commands.following import INTERRUPTED, follow, print_failure, print_image, print_missing
from transship.commands.formats import disk_format_of_file, disk_format_of_url
from transship.commands.images_api import ImagesApi, ImageView, TaskView
from transship.commands.keystone_login import images_api
from transship.commands.local_file import CHUNK_BYTES, LocalFile
from transship.commands.progress import progress_view
from transship.domain.errors import CommandRefused, TransshipError
from transship.domain.uri_filter import display_uri

UUID_PATTERN: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
OPTION_OF: Final = {
    "id": "--id",
    "name": "--name",
    "disk_format": "--disk-format",
    "container_format": "--container-format",
}


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
        keep: keep the image if its import fails.
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
    keep: bool = False

    @property
    def local_path(self) -> Path | None:
        """Path of the file to upload; None when the source is a URL."""
        return None if "://" in self.source else Path(self.source)


def parse_properties(assignments: list[str]) -> dict[str, str]:
    """Return the properties of ``--property NAME=VALUE``.

    Raises:
        CommandRefused: one has no ``=`` or no name, or has an option of its own.
    """
    properties = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            remedy = "write NAME=VALUE, e.g. --property os_type=linux"
            raise CommandRefused(f"--property {assignment} is not an assignment", remedy)
        if name in OPTION_OF:
            raise CommandRefused(f"--property {name} is a field of every image", f"use {OPTION_OF[name]}")
        properties[name] = value
    return properties


def import_image(invocation: Invocation, options: ImportOptions) -> int:
    """Import one image; return 0 when it is active, else 1. An image whose import failed is removed or kept.

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
    if options.image_id and not UUID_PATTERN.fullmatch(options.image_id):
        raise CommandRefused(f"--id {options.image_id} is not a UUID", "leave it out, and the service makes one")
    settings = invocation.settings
    api = images_api(settings)
    path = options.local_path
    file = LocalFile.at(path) if path else None
    if file is None or options.stores:
        # Also says that nothing listens, before the source is asked.
        api.refuse_unknown(options.stores)
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
    task = follow(api, image.id)
    if task is None:
        return INTERRUPTED
    image = api.image(image.id)
    if task.status != "success" or image.status != "active":
        return _failed(settings, api, image, task, keep=options.keep)
    return _report(settings, image, task, file, disk_format)


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


def _report(settings: Settings, image: ImageView, task: TaskView, file: LocalFile | None, asked_format: str) -> int:
    print_image(settings, image)
    if image.failed_stores:
        print_missing(settings, image, task, image.failed_stores)
    return _compare(image, file, asked_format) if file else 0


def _failed(settings: Settings, api: ImagesApi, image: ImageView, task: TaskView, *, keep: bool) -> int:
    """Say why an import failed, and remove the image unless it is to be kept or a store has it; return 1."""
    print_failure(settings, image, task)
    if keep or image.stores or not _agreed(f"Remove image {image.id}, which is in no store?"):
        print(f"image {image.id} is {image.status}; 'transship rerun {image.id}' tries again")
        return 1
    try:
        api.delete(image.id)
    except TransshipError as error:
        print(f"image {image.id} is {image.status}, and could not be removed: {error}")
    else:
        print(f"image {image.id} is removed; with --keep it stays for 'transship rerun'")
    return 1


def _agreed(question: str) -> bool:
    """Ask somebody at a terminal; without one the answer is yes."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


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


def _file_name(uri: str) -> str:
    if uri.startswith("file:"):
        return unquote(uri.rpartition("/")[2])
    return unquote(display_uri(uri).rpartition("/")[2]) or display_uri(uri)
