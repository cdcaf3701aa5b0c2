"""A run has the settings passed to its process; users see nothing about the server's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.loading import SNAPSHOT_VARIABLE
from config.snapshot import sources_of_process, take_snapshot
from flows.housekeeping import housekeeping
from tests.fakes.images import read_image
from tests.fakes.web_imports import run
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.domain.image import ImageStatus

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prefect_client")]

BODY = bytes(200_000)


@pytest.fixture
def snapshot(site: Site) -> Path:
    """Pass the current settings to this process."""
    (site.home / "transship.toml").write_text('[imports]\nplugins = ["inject_image_metadata"]\n')
    site.set(inject__properties='{"marked": "yes"}', inject__ignore_user_roles="[]")
    sources = sources_of_process()
    path = take_snapshot(sources.load(), sources, supervised=True)
    site.environment.setenv(SNAPSHOT_VARIABLE, str(path))
    return path


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize(
    "text",
    ["[imports\n", "[imports]\nno_such_option = 1\n", "[imports]\nplugins = []\n"],
    ids=["TOML", "name", "valid"],
)
def test_an_edit_reaches_no_run(site: Site, server: WebServer, text: str) -> None:
    (site.home / "transship.toml").write_text(text)
    state, image_id = run(server.serve("/disk.raw", BODY), project_id="p1")
    assert state.name == "Imported", state.message
    assert read_image(site.catalog, image_id).properties["marked"] == "yes"
    assert housekeeping(return_state=True).name == "Swept"


def test_a_run_without_settings_tells_users_no_path(site: Site, server: WebServer, snapshot: Path) -> None:
    snapshot.unlink()
    with capture_logs() as logs:
        state, _ = run(server.serve("/disk.raw", BODY), project_id="p1")
    assert state.is_crashed()
    assert "not configured correctly" in str(state.message)
    assert str(site.home) not in str(state.message)
    assert [line for line in logs if str(snapshot) in line.get("reason", "")]


def test_a_plugin_that_nobody_has_is_named_to_users(site: Site, server: WebServer) -> None:
    site.set(imports__plugins="nobody_has")
    state, image_id = run(server.serve("/disk.raw", BODY), project_id="p1")
    assert state.is_failed()
    assert "imports.plugins: " in str(state.message)
    assert "nobody_has" in str(state.message)
    assert read_image(site.catalog, image_id).status is ImageStatus.QUEUED
