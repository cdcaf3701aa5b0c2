"""web-download flows in a test's own process, and checks of the result."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import State

from flows.web_download import web_download
from tests.fakes.images import asked, read_image
from tests.fakes.running_import import location, staging_names
from tests.flows.conftest import Site
from transship.catalog.engine import Catalog
from transship.catalog.tasks import tasks_of_image
from transship.domain.image import ImageStatus
from transship.domain.task import ImportTask


def run(uri: str, **parameters: Any) -> tuple[State[Any], str]:
    """Start the flow by hand, by default for a raw disk; return its final state and the id of its image."""
    parameters = {"image_id": uuid4(), "disk_format": "raw", **parameters}
    state: State[Any] = web_download(uri, return_state=True, **parameters)
    return state, str(parameters["image_id"])


def newest_task(catalog: Catalog, image_id: str) -> ImportTask:
    """Return the newest task of an image."""
    with catalog.read() as connection:
        return tasks_of_image(connection, image_id, read_image(catalog, image_id).created_at)[0]


def assert_nothing_left(site: Site, image_id: str, reason: str) -> None:
    """The image is queued with the reason, nothing of it is left, and it can be imported again at once."""
    image = read_image(site.catalog, image_id)
    assert (image.status, image.import_message) == (ImageStatus.QUEUED, reason)
    assert staging_names(site.settings) == set()
    for store in site.settings.all_stores:
        assert site.stored(store) == {}
        assert location(site.catalog, image_id, store) is None
    asked(site.catalog, image)
