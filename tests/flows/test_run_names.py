"""The display names of flow runs."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from flows import copy_image, glance_direct, glance_download, web_download

IMAGE_ID = "5eecda1a-c976-4824-9fbf-de429a043409"
TASK_ID = "0c8a5a5b-3f5f-4a3e-9a36-0d5c1f0c3f11"
URI = "https://example.org/disk.raw"


@pytest.mark.parametrize(
    ("name_of", "parameters", "name"),
    [
        (web_download.run_name, {"uri": URI, "name": "debian", "image_id": IMAGE_ID}, "web-download debian 5eecda1a"),
        (web_download.run_name, {"uri": URI, "name": "debian", "image_id": None}, "web-download debian"),
        (web_download.run_name, {"uri": URI}, "web-download disk.raw"),
        (glance_download.run_name, {"glance_region": "north"}, "glance-download from north"),
        (glance_download.run_name, {"name": "debian", "image_id": IMAGE_ID}, "glance-download debian 5eecda1a"),
        (glance_direct.run_name, {"image_id": IMAGE_ID}, "glance-direct 5eecda1a"),
        (copy_image.run_name, {"image_id": IMAGE_ID}, "copy-image 5eecda1a"),
        (copy_image.run_name, {"image_id": IMAGE_ID, "task_id": TASK_ID}, "copy-image debian 5eecda1a"),
    ],
)
def test_a_run_is_called_by_method_name_and_image(
    name_of: Callable[[], str], parameters: dict[str, str | None], name: str
) -> None:
    run = FlowRun(flow_id=uuid4(), parameters=parameters, name="copy-image debian 5eecda1a")
    with FlowRunContext.model_construct(flow_run=run, parameters=parameters):  # type: ignore[call-arg]  # names ask for no more
        assert name_of() == name
