"""What Prefect shows of a run: the parameters that the keeper gives it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.images import NOW, new_image
from transship.domain.import_request import ImportMethod
from transship.domain.task import ImportTask, TaskStatus
from transship.keeper.dispatch import run_parameters

METHODS: dict[ImportMethod, dict[str, str]] = {
    ImportMethod.GLANCE_DIRECT: {},
    ImportMethod.WEB_DOWNLOAD: {"uri": "https://source.example/debian.img"},
    ImportMethod.GLANCE_DOWNLOAD: {
        "glance_image_id": "46e12c4c-8e3c-44d3-a8bd-8b9b1d7a1d0e",
        "glance_region": "elsewhere",
        "glance_service_interface": "public",
    },
    ImportMethod.COPY_IMAGE: {},
}


def parameters(method: ImportMethod, **import_req: object) -> dict[str, Any]:
    request = {"method": {"name": str(method), **METHODS[method]}, **import_req}
    task_input = {"import_req": request, "backend": ["fast", "slow"]}
    image = new_image(owner="p1")
    return run_parameters(
        ImportTask("a task", image.id, method, TaskStatus.PENDING, "p1", NOW, NOW, input=task_input), image
    )


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(("asked", "shown"), [({}, True), ({"all_stores_must_succeed": False}, False)])
def test_a_run_says_whether_all_stores_must_succeed(method: ImportMethod, asked: dict[str, bool], shown: bool) -> None:
    assert parameters(method, **asked)["all_stores_must_succeed"] is shown


@pytest.mark.parametrize("method", list(METHODS))
def test_a_run_says_its_source_and_its_stores(method: ImportMethod) -> None:
    given = parameters(method)
    assert (given["task_id"], given["stores"]) == ("a task", ["fast", "slow"])
    assert METHODS[method].items() <= given.items()


@pytest.mark.parametrize("method", [ImportMethod.WEB_DOWNLOAD, ImportMethod.GLANCE_DOWNLOAD])
def test_a_run_that_makes_no_image_says_which_one_it_fills(method: ImportMethod) -> None:
    given = parameters(method)
    assert (given["name"], given["project_id"]) == ("debian", "p1")
