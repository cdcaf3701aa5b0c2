"""``transship rerun``: do again what failed of an image's last import, and nothing else."""

from __future__ import annotations

from transship.commands.context import Invocation
from transship.commands.images_api import ImagesApi, ImageView
from transship.commands.keystone_login import images_api
from transship.commands.prefect_http import PrefectHttp
from transship.domain.errors import CommandRefused


def rerun(invocation: Invocation, image_id: str, store: str) -> int:
    """Start again what failed, and say how to watch it.

    Stores that an active image lacks are copied to; of an image without data the last import's run is retried,
    as Prefect's own Retry does.

    Args:
        store: the only store to write; empty: all that failed.

    Raises:
        CommandRefused: nothing failed, or an import is under way.
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
    PrefectHttp.of(invocation.settings).retry(task.flow_run_id)
    print(f"flow run {task.flow_run_id} is retried; 'transship images' shows how image {image_id} goes on")
    return 0


def _copy(api: ImagesApi, image: ImageView, store: str) -> int:
    stores = [store] if store else list(image.failed_stores)
    if not stores:
        raise CommandRefused(f"image {image.id} is active, and no store failed")
    request = {"method": {"name": "copy-image"}, "stores": stores, "all_stores_must_succeed": False}
    api.start_import(image.id, request)
    print(f"image {image.id} is copied to {', '.join(stores)}; 'transship images' shows how it goes on")
    return 0
