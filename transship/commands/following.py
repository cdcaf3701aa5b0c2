"""What ``transship import`` and ``rerun`` share: watch an import until it ends, and say what became of the image."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from config.settings import Settings
from transship.catalog.engine import Catalog
from transship.catalog.images import get_image
from transship.commands.context import GREEN, RED, YELLOW, coloured
from transship.commands.images_api import ImagesApi, ImageView, TaskView
from transship.commands.progress import progress_view
from transship.commands.run import prefect_ui_url
from transship.domain.errors import ServiceUnreachable, TransshipError, human_size

POLL_S: Final = 0.25
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as a shell gives it."""

RETRY_S: Final = 120.0
"""How long requests to a silent API are repeated while an import runs; it may be restarting."""


def follow(api: ImagesApi, image_id: str) -> TaskView | None:
    """Show the progress of the newest import of an image until it ends; return None if Ctrl-C ends the watching first.

    Raises:
        ServiceUnreachable: the API has been silent for `RETRY_S`.
    """
    try:
        return _ended(api, image_id)
    except KeyboardInterrupt:
        print_stopped(image_id)
        return None


def _ended(api: ImagesApi, image_id: str) -> TaskView:
    heard = time.monotonic()
    silent = False
    with progress_view() as view:
        while True:
            try:
                task = api.latest_task(image_id)
                heard, silent = time.monotonic(), False
            except ServiceUnreachable as fault:
                if time.monotonic() >= heard + RETRY_S:
                    raise
                if not silent:
                    text = f"{fault.brief}; the import goes on, and this command tries again for {RETRY_S:.0f} s"
                    print(coloured(text, YELLOW, error=True), file=sys.stderr, flush=True)
                task, silent = None, True
            if task is not None:
                view.show(task)
                if task.final:
                    return task
            time.sleep(POLL_S)


def print_stopped(image_id: str) -> None:
    """Say after Ctrl-C that the import continues."""
    print(f"\nstopped watching; the import of image {image_id} continues: 'transship images' shows its state")


def print_image(settings: Settings, image: ImageView) -> None:
    """Print an active image and its locations."""
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


def print_missing(settings: Settings, image: ImageView, task: TaskView, missing: Sequence[str]) -> None:
    """Print which stores do not have an active image, why, the command that writes them, and where the run is shown."""
    reasons = {store.store: store.error for store in task.stores}
    for store in missing:
        reason = reasons.get(store) or task.message
        print(coloured(f"warning: store {store} does not have the image ({reason})", YELLOW))
    command = f"transship rerun {image.id}" + (f" --store {missing[0]}" if len(missing) == 1 else "")
    print(f"{'the rest':<13} {command}")
    print_run(settings, task)


def print_failure(settings: Settings, image: ImageView, task: TaskView) -> None:
    """Print why an import failed, and where its run is shown."""
    reason = task.message or image.message or f"the image is {image.status}"
    print(coloured(f"error: {reason}", RED))
    print_run(settings, task)


def print_run(settings: Settings, task: TaskView) -> None:
    """Print the address of an import's run in Prefect, if it has one."""
    if task.flow_run_id:
        print(f"{'run':<13} {prefect_ui_url(settings)}/runs/flow-run/{task.flow_run_id}")


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


def _size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes} bytes ({human_size(size_bytes)})"
