"""Operators' work in Prefect's UI, done in a headless browser: forms of all methods, a failed store, Retry.

`pytest --pictures DIRECTORY` keeps screenshots, for people to look at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.secrets import prefect_auth_string
from tests.fakes.fleet import METHODS, REGION, TARGETS, Fleet
from tests.fakes.prefect_ui import PrefectUi, browser_is_installed
from tests.fakes.system import until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not browser_is_installed(), reason="Chromium is not installed (apt-get install chromium chromium-driver)"
    ),
]

BODY = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def ui(fleet: Fleet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectUi]:
    chosen = request.config.getoption("--pictures")
    pictures = Path(chosen) if chosen else tmp_path_factory.mktemp("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    settings = fleet.system.settings
    url = settings.prefect_api_url.removesuffix("/api")
    with PrefectUi(url, prefect_auth_string(settings), pictures) as browser:
        yield browser


def deployment_id(fleet: Fleet, method: str) -> str:
    found = fleet.system.prefect("GET", f"/deployments/name/{method}/{method}")
    return str(found["id"])


def image_named(fleet: Fleet, name: str) -> str:
    """Wait for the image that a run by hand makes; return its id."""

    def found() -> str | None:
        images = fleet.system.api("GET", f"/v2/images?name={name}").json()["images"]
        return str(images[0]["id"]) if images else None

    return str(until(found, 180.0, f"an image named {name}"))


def holds_all(fleet: Fleet, image_id: str) -> bool:
    """Return whether every store holds an image, as the API shows it."""
    return set(TARGETS) <= set(fleet.system.image(image_id).get("stores", "").split(","))


@pytest.mark.parametrize("method", METHODS)
def test_the_form_of_each_method_ends_in_an_active_image(fleet: Fleet, ui: PrefectUi, method: str) -> None:
    image_id, request = fleet.prepare(method, BODY)
    asked = request["method"]
    ui.open_form(deployment_id(fleet, method))
    match method:
        case "web-download":
            ui.fill("uri", asked["uri"])
            ui.fill("name", "downloaded-by-form")
        case "glance-download":
            ui.fill("glance_region", REGION)
            ui.fill("glance_image_id", asked["glance_image_id"])
            ui.fill("name", "fetched-by-form")
        case _:
            ui.fill("image_id", image_id)
    ui.fill("stores", request["stores"])
    ui.picture(f"form of {method}")
    ui.submit()
    names = {"web-download": "downloaded-by-form", "glance-download": "fetched-by-form"}
    if method in names:
        image_id = image_named(fleet, names[method])
    until(lambda: holds_all(fleet, image_id), 180.0, method)
    task = fleet.system.ended(image_id)
    image = fleet.system.image(image_id)
    assert (task["status"], image["status"]) == ("success", "active"), task["message"]
    assert image["os_hash_value"] == hashlib.sha512(BODY).hexdigest()


def test_a_form_that_cannot_be_used_says_so_on_the_run(fleet: Fleet, ui: PrefectUi) -> None:
    ui.open_form(deployment_id(fleet, "web-download"))
    ui.fill("uri", "http://169.254.169.254/latest")
    ui.fill("name", "refused-by-rule")
    ui.submit()
    image_id = image_named(fleet, "refused-by-rule")
    reason = fleet.system.ended(image_id)["message"]
    assert "169.254.169.254" in reason
    run_id = fleet.system.flow_run(image_id)["id"]
    ui.open(f"runs/flow-run/{run_id}")
    ui.wait_for_text("Failed", reason[:60])
    ui.picture("a run that was refused")


def test_retry_writes_the_store_that_failed_and_no_other(fleet: Fleet, ui: PrefectUi) -> None:
    first, second = (fleet.system.settings.all_stores[store].dir for store in TARGETS)
    aside = second.with_name("aside")
    image_id, request = fleet.prepare("web-download", BODY)
    second.mkdir(parents=True, exist_ok=True)
    second.rename(aside)
    second.write_text("a file where the store's directory was")
    try:
        body = {**request, "all_stores_must_succeed": False}
        asked = fleet.system.api("POST", f"/v2/images/{image_id}/import", json=body)
        assert asked.status_code == 202, asked.text
        fleet.system.ended(image_id)
    finally:
        second.unlink()
        aside.rename(second)
    image = fleet.system.image(image_id)
    assert (image["status"], image["stores"], image["os_glance_failed_import"]) == ("active", "local", "second")
    written = (first / image_id).stat()
    run_id = fleet.system.flow_run(image_id)["id"]
    ui.open(f"runs/flow-run/{run_id}")
    ui.wait_for_text("Imported in part")
    ui.picture("a run with a failed store")
    ui.press("Artifacts")
    ui.wait_for_text("1 of 2 stores hold the image")
    ui.picture("artifacts of a run with a failed store")
    ui.choose("Retry")
    ui.picture("the question before a Retry")
    ui.press("Retry")
    until(lambda: holds_all(fleet, image_id), 180.0, "the Retry's end")
    assert fleet.system.image(image_id)["os_glance_failed_import"] == ""
    assert (second / image_id).read_bytes() == BODY
    # The store that was written is not written again: the same file, untouched.
    now = (first / image_id).stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    until(lambda: fleet.system.flow_run(image_id)["state"]["type"] == "COMPLETED", 180.0, "the run's end")
    ui.open(f"runs/flow-run/{run_id}?tab=Details")
    ui.wait_for_text("Imported", "Run Count")
    ui.picture("the same run after Retry")
