"""``transship images``: the images, as the API lists them."""

from __future__ import annotations

from transship.commands.context import Invocation, print_table
from transship.commands.images_api import ImageView, TaskView
from transship.commands.keystone_login import images_api
from transship.commands.progress import phase_line
from transship.domain.errors import human_size

HEADINGS = ("ID", "NAME", "STATUS", "FORMAT", "SIZE", "STORES", "MESSAGE")


def list_images(invocation: Invocation) -> int:
    """Print a table of all images, newest first."""
    api = images_api(invocation.settings)
    rows = [row_of(image, api.latest_task(image.id) if image.status == "importing" else None) for image in api.images()]
    print_table(HEADINGS, rows)
    return 0


def row_of(image: ImageView, task: TaskView | None) -> tuple[str, ...]:
    """Return the cells of one image; the message of a running import is its progress."""
    return (
        image.id,
        image.name or "-",
        image.status,
        image.disk_format or "-",
        human_size(image.size) if image.size is not None else "-",
        ",".join(image.stores) or "-",
        " ".join((phase_line(task) if task else image.message).split()) or "-",
    )
