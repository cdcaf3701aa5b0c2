"""The staging directory of a host is created once; one that is not mounted is never created again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from tests.fakes.images import NOW, begun, queued_image, settings_in
from transship.catalog.engine import Catalog
from transship.catalog.journal import open_staged
from transship.domain.errors import ConfigurationRefused, StagingUnavailable
from transship.host.directories import MARK
from transship.staging.area import StagingArea
from transship.staging.opening import open_staging, staging_problem


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, host_name="here")


@pytest.fixture
def area(settings: Settings) -> StagingArea:
    return StagingArea.of(settings)


def unmount(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


@pytest.mark.parametrize("lost", [shutil.rmtree, unmount], ids=["missing", "empty"])
def test_a_directory_that_was_open_before_is_not_made_anew(
    settings: Settings, catalog: Catalog, area: StagingArea, lost: Callable[[Path], object]
) -> None:
    open_staging(catalog, area)
    assert staging_problem(settings, catalog) == ""
    lost(area.directory)
    for _ in range(2):
        with pytest.raises(StagingUnavailable, match="staging directory of here is not mounted"):
            open_staging(catalog, area)
    assert not (area.directory / MARK).exists()
    assert f"{area.directory} is not mounted" in staging_problem(settings, catalog)
    (area.directory).mkdir(exist_ok=True)
    (area.directory / MARK).touch()
    open_staging(catalog, area)
    assert staging_problem(settings, catalog) == ""


def test_files_of_an_earlier_release_show_that_a_directory_was_there(
    settings: Settings, catalog: Catalog, area: StagingArea
) -> None:
    open_staged(catalog, begun(catalog, queued_image(catalog)).lease, "one", "here", "source", "", NOW)
    with pytest.raises(StagingUnavailable):
        open_staging(catalog, area)
    assert not area.directory.exists()
    area.prepare(catalog.id())
    open_staging(catalog, area)


def test_another_directory_or_another_host_begins_with_a_new_one(
    settings: Settings, catalog: Catalog, area: StagingArea, tmp_path: Path
) -> None:
    open_staging(catalog, area)
    for other in (StagingArea(tmp_path / "other", "here", 0), StagingArea(tmp_path / "others", "there", 0)):
        open_staging(catalog, other)


def test_before_its_first_use_nothing_is_wrong(settings: Settings, catalog: Catalog) -> None:
    assert staging_problem(settings, catalog) == ""
    assert not settings.staging_dir.exists()


@pytest.mark.parametrize("owner", ["another", "store fast of catalogue another"])
def test_the_directory_of_another_is_refused_by_name(
    settings: Settings, catalog: Catalog, area: StagingArea, owner: str
) -> None:
    open_staging(catalog, area)
    (area.directory / MARK).write_text(owner)
    with pytest.raises(ConfigurationRefused, match=f"serves another catalogue .{owner}"):
        open_staging(catalog, area)
    assert f"serves another catalogue ({owner})" in staging_problem(settings, catalog)


@pytest.mark.parametrize("lost", [shutil.rmtree, unmount], ids=["missing", "empty"])
def test_nothing_is_written_or_taken_for_removed_while_it_is_not_there(
    catalog: Catalog, area: StagingArea, lost: Callable[[Path], object]
) -> None:
    open_staging(catalog, area)
    lost(area.directory)
    with pytest.raises(StagingUnavailable), area.writing("one"):
        pass
    with pytest.raises(StagingUnavailable):
        area.remove("one")
    assert not area.directory.exists() or list(area.directory.iterdir()) == []
