"""The Images API and an import under the very file that a real Glance runs with, beside that Glance."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loading import load_settings
from tests.fakes.asked_imports import AskedImports
from tests.fakes.openstack_peers import OpenStack
from tests.fakes.web_server import WebServer
from transship.commands.configuration import refuse_what_cannot_start

pytestmark = [
    pytest.mark.real,
    # openstacksdk warns about its own future whenever it connects.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_the_file_of_a_running_glance_serves_its_callers_and_its_store(
    cloud: OpenStack, imports: AskedImports, server: WebServer, tmp_path: Path
) -> None:
    # The Glance goes on, so its staging directory stays its own.
    imports.site.set(glance_config=str(cloud.glance.configuration), staging__dir=str(tmp_path / "staging"))
    refuse_what_cannot_start(load_settings())
    connection = cloud.connect()
    imports.token = connection.auth_token

    data = b"an image" * 1000
    state, image_id = imports.bring(server.serve("/image.raw", data))
    assert state.is_completed(), state.message
    shown = imports.shown(image_id)
    assert (shown["status"], shown["stores"], shown["owner"]) == ("active", "disk", connection.current_project_id)
    assert (cloud.pool / image_id).read_bytes() == data
    imports.token = ""
    assert imports.api("GET", "/v2/images").status_code == 401
