"""``transship rerun``: do again what failed of an image's last import, and nothing else."""

from __future__ import annotations

import time
from typing import Final

from transship.commands.context import Invocation
from transship.commands.images_api import ImagesApi, ImageView, TaskView
from transship.commands.keystone_login import images_api
from transship.commands.prefect_http import PrefectHttp
from transship.domain.errors import CommandRefused
from transship.domain.task import RunState

POLL_S: Final = 0.25
PATIENCE_S: Final = 30.0
"""How long a run that is retried is waited for: one that no worker begins by then waits for a worker."""


def rerun(invocation: Invocation, image_id: str, store: str) -> int:
    """Start again what failed, and say how to watch it.

    Stores that an active image lacks are copied to; of an image without data the last import's run is retried,
    as Prefect's own Retry does.

    Args:
        store: the only store to write; empty: all that failed.

    Raises:
        CommandRefused: nothing failed, what failed will not pass by itself, or an import is under way.
        ServiceUnreachable, ServiceRefused: the API or Prefect does not do it.
    """
    api = images_api(invocation.settings)
    image = api.image(image_id)
    if image.status == "active":
        return _copy(api, image, store)
    task = api.latest_task(image_id)
    if task is None or task.status != "failure" or not task.flow_run_id:
        raise CommandRefused(f"image {image_id} is {image.status}, and no import of it has failed")
    if store:
        raise CommandRefused(f"image {image_id} is {image.status}: without data in any store, all of them are written")
    prefect = PrefectHttp.of(invocation.settings)
    prefect.retry(task.flow_run_id)
    _refuse_if_in_vain(api, prefect, image_id, task)
    print(f"flow run {task.flow_run_id} is retried; 'transship images' shows how image {image_id} goes on")
    return 0


def _refuse_if_in_vain(api: ImagesApi, prefect: PrefectHttp, image_id: str, ended: TaskView) -> None:
    """Wait for a while until a retried run has begun a further task.

    Raises:
        CommandRefused: it ended without: time does not mend what failed, or the image was imported again since.
    """
    patience_ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < patience_ends:
        name, message = prefect.run_state(ended.flow_run_id)
        newest = api.latest_task(image_id)
        if newest is not None and newest.id != ended.id:
            return
        if name == RunState.SUPERSEDED:
            raise CommandRefused(f"image {image_id}: {message}")
        time.sleep(POLL_S)


def _copy(api: ImagesApi, image: ImageView, store: str) -> int:
    stores = [store] if store else list(image.failed_stores)
    if not stores:
        raise CommandRefused(f"image {image.id} is active, and no store failed")
    request = {"method": {"name": "copy-image"}, "stores": stores, "all_stores_must_succeed": False}
    api.start_import(image.id, request)
    print(f"image {image.id} is copied to {', '.join(stores)}; 'transship images' shows how it goes on")
    return 0
