"""``transship rerun``: retry what failed in the last import of an image, and nothing else."""

from __future__ import annotations

import time
from typing import Final

from config.settings import Settings
from transship.commands.context import RED, Invocation, coloured
from transship.commands.following import INTERRUPTED, follow, print_failure, print_image, print_missing, print_stopped
from transship.commands.images_api import ImagesApi, ImageView, TaskView
from transship.commands.keystone_login import images_api
from transship.commands.prefect_http import PrefectHttp
from transship.domain.errors import CommandRefused
from transship.domain.task import ENDED_TYPES, TYPE_OF_STATE

ENDED: Final = frozenset(name for name, kind in TYPE_OF_STATE.items() if kind in ENDED_TYPES)
POLL_S: Final = 0.25
PATIENCE_S: Final = 5.0
"""How long a retried run may take to begin before that is said."""


def rerun(invocation: Invocation, wanted: str, store: str) -> int:
    """Retry what failed, and show the progress until the retry ends; return 0 when the image is where it should be.

    An active image is copied to the stores that failed. For an image without data, the flow run of its last import is
    retried, as Prefect's own Retry does.

    Args:
        wanted: id or name of the image.
        store: the only store to write; empty: all that failed.

    Raises:
        CommandRefused: nothing failed, a retry cannot help, or there is no such image or more than one.
        ServiceUnreachable, ServiceRefused: the API or Prefect refuses.
    """
    settings = invocation.settings
    api = images_api(settings)
    image = api.named(wanted)
    if store:
        api.refuse_unknown([store])
    if image.status == "active":
        return _copy(settings, api, image, store)
    task = api.latest_task(image.id)
    if task is None or task.status != "failure" or not task.flow_run_id:
        running = task is not None and not task.final
        raise CommandRefused(
            f"image {image.id} is {image.status}, and no import of it has failed",
            "'transship images' shows its progress" if running else "import it first, or again",
        )
    if store:
        raise CommandRefused(
            f"image {image.id} is {image.status} and has no data in any store, so all its stores are written",
            "leave out --store",
        )
    prefect = PrefectHttp.of(settings)
    prefect.retry(task.flow_run_id)
    print(f"image {image.id}: flow run {task.flow_run_id} is retried", flush=True)
    try:
        _await_begin(api, prefect, image.id, task)
    except KeyboardInterrupt:
        print_stopped(image.id)
        return INTERRUPTED
    return _followed(settings, api, image)


def _await_begin(api: ImagesApi, prefect: PrefectHttp, image_id: str, before: TaskView) -> None:
    """Wait until the retried run has started a new task.

    Raises:
        CommandRefused: it ended without one: a retry cannot help, or the image was imported again since.
    """
    patient_until = time.monotonic() + PATIENCE_S
    while True:
        name, message = prefect.run_state(before.flow_run_id)
        newest = api.latest_task(image_id)
        if newest is not None and newest.id != before.id:
            return
        if name in ENDED:
            raise CommandRefused(f"image {image_id}: {message or f'its flow run is {name}'}")
        if patient_until and time.monotonic() > patient_until:
            patient_until = 0.0
            print("waiting for a worker; 'transship status' shows which are online", flush=True)
        time.sleep(POLL_S)


def _copy(settings: Settings, api: ImagesApi, image: ImageView, store: str) -> int:
    stores = [store] if store else list(image.failed_stores)
    if not stores:
        raise CommandRefused(f"image {image.id} is active, and no store failed", "there is nothing to retry")
    request = {"method": {"name": "copy-image"}, "stores": stores, "all_stores_must_succeed": False}
    api.start_import(image.id, request)
    print(f"image {image.id}: copying to {', '.join(stores)}", flush=True)
    return _followed(settings, api, image, wanted=tuple(stores))


def _followed(settings: Settings, api: ImagesApi, image: ImageView, wanted: tuple[str, ...] = ()) -> int:
    task = follow(api, image.id)
    if task is None:
        return INTERRUPTED
    now = api.image(image.id)
    if now.status != "active":
        print_failure(settings, now, task)
        print(f"image {now.id} is {now.status}")
        return 1
    missing = [store for store in wanted or now.failed_stores if store not in now.stores]
    if task.status != "success" and not missing:
        print(coloured(f"error: {task.message}", RED))
    print_image(settings, now)
    if missing:
        print_missing(settings, now, task, missing)
    return 1 if missing or task.status != "success" else 0
