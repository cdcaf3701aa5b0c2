"""A file store with several directories, through the API and a flow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from uuid import uuid4

import pytest

from config.settings.stores import kind_of
from tests.fakes.asked_imports import AskedImports
from tests.fakes.file_stores import names, tmpfs
from tests.fakes.web_server import WebServer
from transship.catalog.journal import find_location
from transship.commands.doctor import Level, check_catalog

pytestmark = pytest.mark.real

BODY = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def store_id(imports: AskedImports, tmp_path: Path) -> str:
    """The site's one store, whose preferred directory is too small for the image; its id is no other test's."""
    store_id = f"shelf-{uuid4().hex[:8]}"
    dirs = [f"{tmp_path}/small:9", f"{tmp_path}/large"]
    imports.site.set(stores=json.dumps({store_id: {"dirs": dirs}}), default_store=store_id)
    return store_id


def test_an_image_goes_where_there_is_room_and_its_location_says_so(
    imports: AskedImports, store_id: str, server: WebServer, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "small"):
        state, image_id = imports.bring(server.serve("/disk.img", BODY))
        assert state.name == "Imported", state.message
        with imports.site.catalog.read() as connection:
            row = find_location(connection, image_id, store_id)
        assert row is not None
        assert row.url == f"file://{tmp_path}/large/{image_id}"
        assert (names(tmp_path / "small"), names(tmp_path / "large")) == ([], [image_id])
        assert imports.api("GET", f"/v2/images/{image_id}/file").content == BODY
        assert imports.api("DELETE", f"/v2/images/{image_id}").status_code == 204
        assert names(tmp_path / "large") == []


def test_its_directories_are_shown_and_one_that_is_missing_is_named(
    imports: AskedImports, store_id: str, tmp_path: Path
) -> None:
    (details,) = imports.api("GET", "/v2/info/stores/detail").json()["stores"]
    assert details["properties"]["data_dir"] == f"{tmp_path}/small,{tmp_path}/large"
    (found,) = (each for each in check_catalog(imports.site.settings) if each.subject == f"store {store_id}")
    assert (found.level, found.text.startswith(f"{tmp_path}/small, {tmp_path}/large: ")) == (Level.OK, True)
    (tmp_path / "large").rename(tmp_path / "elsewhere")
    (found,) = (each for each in check_catalog(imports.site.settings) if each.subject == f"store {store_id}")
    assert (found.level, f"Mount {tmp_path}/large and" in found.text) == (Level.FAIL, True)


def test_its_settings_pass_through_a_block(imports: AskedImports, store_id: str) -> None:
    store = imports.site.settings.all_stores[store_id]
    kind = kind_of(store)
    assert kind.settings_of(kind.document_of(store)) == store
    assert kind.document_of(store)["directory"] is None
