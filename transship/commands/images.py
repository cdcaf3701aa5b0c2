"""``transship images``: the images, as the API lists them."""

from __future__ import annotations

from dataclasses import asdict, replace

from transship.commands.context import Invocation, print_json, print_table
from transship.commands.images_api import ImagesApi, ImageView
from transship.commands.keystone_login import images_api
from transship.commands.progress import phase_line
from transship.domain.errors import human_size

HEADINGS = ("ID", "NAME", "STATUS", "FORMAT", "SIZE", "STORES", "MESSAGE")


def list_images(invocation: Invocation, *, as_json: bool = False) -> int:
    """Print all images, newest first; the message of a running import is its progress."""
    api = images_api(invocation.settings)
    images = [_with_progress(image, api) for image in api.images()]
    if as_json:
        print_json([asdict(image) for image in images])
    else:
        print_table(HEADINGS, [row_of(image) for image in images])
    return 0


def _with_progress(image: ImageView, api: ImagesApi) -> ImageView:
    task = api.latest_task(image.id) if image.status == "importing" else None
    return image if task is None else replace(image, message=phase_line(task))


def _failed_stores(image: ImageView) -> str:
    return f"not written to {', '.join(image.failed_stores)}" if image.failed_stores else ""


def row_of(image: ImageView) -> tuple[str, ...]:
    """Return the cells of one image."""
    return (
        image.id,
        image.name or "-",
        image.status,
        image.disk_format or "-",
        human_size(image.size) if image.size is not None else "-",
        ",".join(image.stores) or "-",
        " ".join(image.message.split()) or _failed_stores(image) or "-",
    )
