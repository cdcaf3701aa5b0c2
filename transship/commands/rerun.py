"""``transship rerun``: retry what failed in the last import of an image, and nothing else."""

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
WAIT_S: Final = 30.0
"""How long to wait for the retried run; if it has not begun by then, it waits for a worker."""


def rerun(invocation: Invocation, image_id: str, store: str) -> int:
    """Retry what failed, and print how to watch it.

    An active image is copied to the stores that failed. For an image without data, the flow run of its last import is
    retried, as Prefect's own Retry does.

    Args:
        store: the only store to write; empty: all that failed.

    Raises:
        CommandRefused: nothing failed, a retry cannot help, or an import is running.
        ServiceUnreachable, ServiceRefused: the API or Prefect refuses.
    """
    api = images_api(invocation.settings)
    image = api.image(image_id)
    if image.status == "active":
        return _copy(api, image, store)
    task = api.latest_task(image_id)
    if task is None or task.status != "failure" or not task.flow_run_id:
        raise CommandRefused(f"image {image_id} is {image.status}, and no import of it has failed")
    if store:
        raise CommandRefused(
            f"image {image_id} is {image.status} and has no data in any store, so all its stores are written",
            "leave out --store",
        )
    prefect = PrefectHttp.of(invocation.settings)
    prefect.retry(task.flow_run_id)
    _refuse_if_in_vain(api, prefect, image_id, task)
    print(f"flow run {task.flow_run_id} is retried; 'transship images' shows the progress of image {image_id}")
    return 0


def _refuse_if_in_vain(api: ImagesApi, prefect: PrefectHttp, image_id: str, ended: TaskView) -> None:
    """Wait a moment until the retried run has started a new task.

    Raises:
        CommandRefused: it ended without one: a retry cannot help, or the image was imported again since.
    """
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
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
    print(f"image {image.id} is copied to {', '.join(stores)}; 'transship images' shows the progress")
    return 0
