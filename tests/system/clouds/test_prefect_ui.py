"""A failed copy to a bucket, mended and retried by an operator in Prefect's UI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.secrets import prefect_auth_string
from tests.fakes.prefect_ui import PrefectUi, browser_is_installed
from tests.fakes.real_stores import CREDENTIALS, RealStores
from tests.fakes.system import until

pytestmark = [
    pytest.mark.real,
    pytest.mark.peers,
    pytest.mark.skipif(
        not browser_is_installed(), reason="Chromium is not installed (apt-get install chromium chromium-driver)"
    ),
]

BODY = os.urandom(6 << 20)


def test_retry_writes_the_bucket_that_failed_and_no_other_store(
    real: RealStores, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    chosen = request.config.getoption("--pictures")
    pictures = Path(chosen) if chosen else tmp_path
    settings = real.system.settings
    with real.edited(CREDENTIALS, secret_key="wrong"):
        image_id = real.ask("web-download", BODY, ["files", "objects"], all_stores_must_succeed=False)
        real.system.ended(image_id)
    image = real.system.image(image_id)
    assert (image["status"], image["stores"], image["os_glance_failed_import"]) == ("active", "files", "objects")
    run_id = real.system.flow_run(image_id)["id"]
    url = settings.prefect_api_url.removesuffix("/api")
    with PrefectUi(url, prefect_auth_string(settings), pictures) as ui:
        ui.open(f"runs/flow-run/{run_id}")
        ui.wait_for_text("Imported in part", "store objects denies access")
        ui.picture("a run whose bucket refused the keys")
        ui.choose("Retry")
        ui.press("Retry")
        until(lambda: real.system.image(image_id)["os_glance_failed_import"] == "", 180.0, "the end of the Retry")
        until(lambda: real.system.flow_run(image_id)["state"]["type"] == "COMPLETED", 180.0, "the end of the run")
        ui.open(f"runs/flow-run/{run_id}?tab=Details")
        ui.wait_for_text("Imported", "Run Count")
        ui.picture("the same run after Retry with good keys")
    real.assert_holds(image_id, BODY, "files", "objects")
