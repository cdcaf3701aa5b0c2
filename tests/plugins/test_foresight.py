"""Predicting whether data will be changed, from the first bytes and the image's record."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.fakes.plugin_workspace import settings_with, work_on
from transship.plugins.foresight import may_change_data


@pytest.mark.parametrize(
    ("disk_format", "container_format", "changed"),
    [
        ("raw", "bare", True),
        ("qcow2", "bare", True),
        ("raw", "compressed", False),
        ("ari", "bare", False),
        ("aki", "aki", False),
        ("ami", "ami", False),
    ],
)
def test_an_archive_is_going_to_be_unpacked_unless_the_image_keeps_it(
    disk_format: str, container_format: str, changed: bool, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, imports={"plugins": ["image_decompression"]})
    work, _ = work_on(tmp_path / "none", settings, disk_format=disk_format, container_format=container_format)
    assert may_change_data(settings, work.image, gzip.compress(b"data")) is changed
