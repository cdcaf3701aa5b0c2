"""Prefect's form of a web-download with an empty disk format, which is detected from the data."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from prefect.utilities.callables import parameter_schema

from flows.web_download import web_download
from tests.fakes.disk_images import MIB, converted, raw_disk
from tests.fakes.images import read_image
from tests.fakes.running_import import staging_names
from tests.fakes.web_imports import run
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.domain.image import ImageStatus

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("prefect_client")]


@pytest.fixture
def qcow2(tmp_path: Path) -> bytes:
    return converted(raw_disk(tmp_path / "disk", 2 * MIB), tmp_path / "made", "qcow2").read_bytes()


@pytest.mark.parametrize(("path", "packed"), [("/cloud.img", False), ("/cloud.img.gz", True), ("/cloud", False)])
def test_the_image_says_what_its_data_are(
    site: Site, server: WebServer, qcow2: bytes, path: str, *, packed: bool
) -> None:
    site.set(imports__plugins="image_decompression")
    state, image_id = run(server.serve(path, gzip.compress(qcow2) if packed else qcow2), disk_format=None)
    assert state.is_completed(), state.message
    image = read_image(site.catalog, image_id)
    assert (image.status, image.disk_format, image.virtual_size) == (ImageStatus.ACTIVE, "qcow2", 2 * MIB)
    assert site.stored() == {image_id: qcow2}


def test_data_that_tell_no_format_end_the_import(site: Site, server: WebServer) -> None:
    state, image_id = run(server.serve("/disk.qcow2", bytes(MIB)), disk_format=None)
    assert state.is_failed()
    assert "no mark of a format, and their name says qcow2; state it and import again" in str(state.message)
    assert read_image(site.catalog, image_id).status is ImageStatus.QUEUED
    assert staging_names(site.settings) == set()
    assert site.stored() == {}


def test_the_form_leaves_the_format_to_the_data() -> None:
    assert parameter_schema(web_download).properties["disk_format"]["default"] is None
