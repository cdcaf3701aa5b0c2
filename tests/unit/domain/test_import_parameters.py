"""The parameters of a run, which Prefect shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.images import new_image
from transship.domain.import_parameters import VERSION, ImportParameters
from transship.domain.import_request import parse_import_request
from transship.domain.methods import ImportMethod

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


def parameters(method: ImportMethod, image: dict[str, Any] | None = None, **import_req: object) -> dict[str, Any]:
    body = {"method": {"name": str(method), **METHODS[method]}, **import_req}
    request = parse_import_request(body, list(ImportMethod))
    made = ImportParameters.of(request, ("fast", "slow"), new_image(**{"owner": "p1", **(image or {})}), "a task")
    told: dict[str, Any] = json.loads(json.dumps(made.for_flow()))
    return told


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


@pytest.mark.parametrize("method", list(METHODS))
def test_a_run_says_by_which_version_its_parameters_are_to_be_read(method: ImportMethod) -> None:
    assert parameters(method)["parameters_version"] == VERSION


def test_a_run_shows_no_secret_of_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"uri": "https://user:hush@source.example/debian.img?token=hush"}
    monkeypatch.setitem(METHODS, ImportMethod.WEB_DOWNLOAD, secret)
    assert "hush" not in json.dumps(parameters(ImportMethod.WEB_DOWNLOAD))


@pytest.mark.parametrize(("name", "given"), [("disk_format", "qcow2"), ("container_format", "compressed")])
def test_a_run_says_the_formats_that_its_form_knows(name: str, given: str) -> None:
    assert parameters(ImportMethod.WEB_DOWNLOAD, {name: given})[name] == given
    for unknown in ("made up here", None):
        assert name not in parameters(ImportMethod.WEB_DOWNLOAD, {name: unknown})
