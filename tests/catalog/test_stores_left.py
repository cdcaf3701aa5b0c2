"""Stores that are no longer configured are found by the copies that they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from tests.fakes.images import NOW, begun, queued_image, settings_in
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.endings import finish_import
from transship.catalog.engine import Catalog
from transship.catalog.journal import open_location
from transship.catalog.stores import LeftStore
from transship.commands.doctor import Level, check_catalog
from transship.commands.status import _directories, _shown
from transship.commands.worker import _look_at_directories
from transship.stores_in_force import stores_left

FACTS = DataFacts(
    size=4,
    virtual_size=None,
    checksum=None,
    os_hash_algo="sha512",
    os_hash_value="0" * 128,
    disk_format="raw",
    container_format="bare",
)


@pytest.fixture
def settings(catalog: Catalog, tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def stored(catalog: Catalog, *stores: str) -> None:
    """Add an active image with copies in these stores."""
    found = begun(catalog, queued_image(catalog), *stores)
    for store in stores:
        open_location(catalog, found.lease, store, f"file:///srv/{store}/{found.lease.image_id}", NOW)
        copy_written(catalog, found.lease, store, 4, "test", NOW)
    finish_import(catalog, found.lease, FACTS, {}, message="done", now=NOW, time_to_live_h=48)


def test_only_copies_that_clients_see_count(catalog: Catalog, settings: Settings) -> None:
    stored(catalog, "tape")
    stored(catalog, "tape", "local")
    stored(catalog, "tape", "disk")
    stored(catalog, "local")
    hidden = begun(catalog, queued_image(catalog), "tape")
    open_location(catalog, hidden.lease, "tape", "file:///srv/tape/hidden", NOW)
    assert stores_left(settings, catalog) == [LeftStore("disk", 1, 1), LeftStore("tape", 3, 2)]


def test_commands_name_them_with_what_is_lost(
    catalog: Catalog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(catalog, "tape")
    text = (
        "store tape is not configured, but holds copies of 1 image; downloads of 1 fail with 503,"
        " because no other store has a copy. Configure [stores.tape] again and run 'transship reload'"
    )
    (found,) = (finding for finding in check_catalog(settings) if finding.subject == "store tape")
    assert (found.level, found.text) == (Level.FAIL, text)
    assert not _shown(_directories(settings))
    assert text in capsys.readouterr().out
    _look_at_directories(settings)
    assert text in capsys.readouterr().err


def test_a_store_whose_images_have_other_copies_is_a_warning(catalog: Catalog, settings: Settings) -> None:
    stored(catalog, "tape", "local")
    (found,) = (finding for finding in check_catalog(settings) if finding.subject == "store tape")
    assert found.level is Level.WARN
    assert "503" not in found.text
