"""The settings of a store when an import uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from blocks import FileStoreBlock
from blocks.loading import load_settings_of
from config.settings import FileStoreSettings
from tests.fakes.prefect_server import PrefectServer
from transship.domain.errors import ConfigurationRefused
from transship.stores.documents import document_name
from transship.stores.pool import new_driver


@pytest.fixture
def server(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    with prefect_server.as_client():
        yield prefect_server


@pytest.fixture
def configured(tmp_path: Path) -> FileStoreSettings:
    return FileStoreSettings(dir=tmp_path / "configured")


@pytest.fixture
def store_id() -> str:
    """An id that no other test uses, and that is no name of a block document as it is."""
    return f"fast_{uuid4().hex[:8]}"


def directory_of(store_id: str, configured: FileStoreSettings) -> str:
    driver = new_driver(store_id, load_settings_of(store_id, configured), "catalogue")
    return driver.url_of("").removeprefix("file://").rstrip("/")


@pytest.mark.real
def test_the_block_decides_and_an_edit_of_it_takes_effect(
    server: PrefectServer, store_id: str, configured: FileStoreSettings
) -> None:
    for directory in ("/srv/first", "/srv/second"):
        FileStoreBlock(directory=directory).save(document_name(store_id), overwrite=True)
        with capture_logs() as logs:
            assert directory_of(store_id, configured) == directory
        assert logs == []


@pytest.mark.real
def test_without_a_block_the_configuration_decides(
    server: PrefectServer, store_id: str, configured: FileStoreSettings
) -> None:
    with capture_logs() as logs:
        assert directory_of(store_id, configured) == str(configured.dir)

    assert [(log["log_level"], log["store"]) for log in logs] == [("warning", store_id)]


@pytest.mark.real
def test_an_edit_that_cannot_be_used_is_named(
    server: PrefectServer, store_id: str, configured: FileStoreSettings
) -> None:
    saved = FileStoreBlock(directory="/srv/images").save(document_name(store_id))
    # What the UI sends: Prefect's server knows nothing of absolute paths.
    edit = {"data": {"directory": "images"}, "merge_existing_data": True}
    server.ask("PATCH", f"/block_documents/{saved}", edit)

    with pytest.raises(ConfigurationRefused, match=r"image-store-file/fast.*directory.*not an absolute path"):
        load_settings_of(store_id, configured)


def test_while_prefect_is_away_the_configuration_decides(store_id: str, configured: FileStoreSettings) -> None:
    with PrefectServer().as_client(), capture_logs() as logs:
        assert directory_of(store_id, configured) == str(configured.dir)

    assert [(log["log_level"], log["store"]) for log in logs] == [("warning", store_id)]


def test_where_no_prefect_is_named_none_is_started(store_id: str, configured: FileStoreSettings) -> None:
    with capture_logs() as logs:
        assert directory_of(store_id, configured) == str(configured.dir)

    assert [log["log_level"] for log in logs] == ["warning"]
