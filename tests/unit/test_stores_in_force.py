"""Stores are prepared once; after that a missing one is unavailable, and never created again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from config.settings import FileStoreSettings
from tests.fakes.backups import contents_of, restore
from tests.fakes.images import NOW, begun, queued_image, settings_in
from transship.catalog.engine import Catalog
from transship.catalog.journal import open_location
from transship.catalog.schema import LOCATIONS
from transship.catalog.stores import mirror_store
from transship.domain.errors import StoreUnavailable
from transship.host.directories import MARK
from transship.stores_in_force import prepare_store, store_problem, stores_in_force


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "mount" / "images"


@pytest.fixture
def store(images: Path) -> FileStoreSettings:
    return FileStoreSettings(dir=images)


def journalled(catalog: Catalog, directory: Path, state: str) -> str:
    """Add a copy of an image to the journal of the store ``fast``; return the image's id."""
    import_ = begun(catalog, queued_image(catalog))
    open_location(catalog, import_.lease, "fast", f"file://{directory}/{import_.image.id}", NOW)
    with catalog.write() as connection:
        connection.execute(LOCATIONS.update().values(state=state))
    return import_.image.id


def test_a_new_store_is_made_once(catalog: Catalog, images: Path, store: FileStoreSettings) -> None:
    assert [prepare_store(catalog, "fast", store) for _ in range(3)] == [True, False, False]
    assert (images / MARK).read_text() == f"store fast of catalogue {catalog.id()}"
    assert store_problem(catalog, "fast", store) == ""


@pytest.mark.parametrize("lost", [shutil.rmtree, lambda images: (images / MARK).unlink()], ids=["missing", "unmarked"])
def test_a_store_that_was_prepared_is_not_made_anew(
    catalog: Catalog, images: Path, store: FileStoreSettings, lost: Callable[[Path], object]
) -> None:
    prepare_store(catalog, "fast", store)
    lost(images)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not mounted"):
            prepare_store(catalog, "fast", store)
    assert not (images / MARK).exists()


def test_what_is_wrong_names_the_directory_and_the_remedy(
    catalog: Catalog, images: Path, store: FileStoreSettings
) -> None:
    prepare_store(catalog, "fast", store)
    shutil.rmtree(images)
    problem = store_problem(catalog, "fast", store)
    assert problem.startswith("store fast is unavailable: its directory is not mounted")
    assert f"Mount {images} and run 'transship deploy'" in problem
    assert MARK in problem


@pytest.mark.parametrize("state", ["stored", "active"])
def test_a_store_of_an_earlier_release_that_is_not_mounted_is_not_made_anew(
    catalog: Catalog, images: Path, store: FileStoreSettings, state: str
) -> None:
    journalled(catalog, images, state)
    images.mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="not mounted"):
        prepare_store(catalog, "fast", store)
    assert list(images.iterdir()) == []


@pytest.mark.parametrize("state", ["stored", "active"])
def test_a_store_of_an_earlier_release_is_adopted_by_what_it_holds(
    catalog: Catalog, images: Path, store: FileStoreSettings, state: str
) -> None:
    images.mkdir(parents=True)
    (images / journalled(catalog, images, state)).write_bytes(b"image")
    assert prepare_store(catalog, "fast", store)
    assert store_problem(catalog, "fast", store) == ""


@pytest.mark.parametrize("state", ["uploading", "deleting"])
def test_a_copy_that_may_never_have_been_whole_proves_nothing(
    catalog: Catalog, images: Path, store: FileStoreSettings, state: str
) -> None:
    journalled(catalog, images, state)
    assert prepare_store(catalog, "fast", store)


def test_another_directory_of_the_same_store_is_a_new_one(
    catalog: Catalog, images: Path, store: FileStoreSettings, tmp_path: Path
) -> None:
    prepare_store(catalog, "fast", store)
    other = FileStoreSettings(dir=tmp_path / "other")
    assert prepare_store(catalog, "fast", other)
    shutil.rmtree(images)
    with pytest.raises(StoreUnavailable):
        prepare_store(catalog, "fast", store)
    assert not prepare_store(catalog, "fast", other)


def test_the_directory_of_another_store_or_catalogue_is_refused_by_name(
    catalog: Catalog, store: FileStoreSettings, tmp_path: Path
) -> None:
    prepare_store(catalog, "fast", store)
    with pytest.raises(StoreUnavailable, match=f"store quick .*: store fast of catalogue {catalog.id()};"):
        prepare_store(catalog, "quick", store)
    with (
        closing(Catalog.open(settings_in(tmp_path / "another"))) as another,
        pytest.raises(StoreUnavailable, match=f"store fast of catalogue {catalog.id()};"),
    ):
        prepare_store(another, "fast", store)


def test_a_restored_catalogue_knows_its_stores_again(catalog: Catalog, images: Path, store: FileStoreSettings) -> None:
    before_all = contents_of(catalog)
    prepare_store(catalog, "fast", store)
    restore(catalog, before_all)
    assert prepare_store(catalog, "fast", store)
    shutil.rmtree(images)
    with pytest.raises(StoreUnavailable):
        prepare_store(catalog, "fast", store)


def test_the_stores_in_force_are_those_that_the_keeper_saw(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path,
        stores={"fast": {"dir": str(tmp_path / "fast")}, "slow": {"dir": str(tmp_path / "slow")}},
        default_store="fast",
    )
    edited = FileStoreSettings(dir=tmp_path / "elsewhere")
    with catalog.write() as connection:
        mirror_store(connection, catalog, "slow", edited.model_dump_json(), NOW)
    found = stores_in_force(settings, catalog)
    assert {store_id: store.dir.name for store_id, store in found.items()} == {"fast": "fast", "slow": "elsewhere"}


@pytest.fixture
def several(tmp_path: Path) -> FileStoreSettings:
    return FileStoreSettings(dirs=(f"{tmp_path}/a:1", f"{tmp_path}/b"))


def test_each_of_several_directories_is_prepared_once(
    catalog: Catalog, several: FileStoreSettings, tmp_path: Path
) -> None:
    assert [prepare_store(catalog, "fast", several) for _ in range(2)] == [True, False]
    further = FileStoreSettings(dirs=(*several.dirs, f"{tmp_path}/c"))
    assert [prepare_store(catalog, "fast", further) for _ in range(2)] == [True, False]
    assert (tmp_path / "c" / MARK).read_text() == f"store fast of catalogue {catalog.id()}"


def test_one_directory_that_is_away_is_named_and_does_not_stop_the_others(
    catalog: Catalog, several: FileStoreSettings, tmp_path: Path
) -> None:
    prepare_store(catalog, "fast", several)
    shutil.rmtree(tmp_path / "a")
    further = FileStoreSettings(dirs=(*several.dirs, f"{tmp_path}/c"))
    with pytest.raises(StoreUnavailable, match="not mounted"):
        prepare_store(catalog, "fast", further)
    assert (tmp_path / "c" / MARK).exists()
    assert not (tmp_path / "a").exists()
    problem = store_problem(catalog, "fast", further)
    assert f"Mount {tmp_path}/a and run" in problem
    assert str(tmp_path / "b") not in problem
