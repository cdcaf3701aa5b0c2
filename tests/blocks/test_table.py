"""From settings to blocks and back, and the names of block documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.schemas.actions import BlockDocumentCreate
from pydantic import ValidationError

from blocks import FileStoreBlock, S3CredentialsBlock, block_of
from config.settings import FileStoreSettings
from config.settings.stores.s3 import S3StoreSettings
from transship.stores.documents import document_name
from transship.stores.file import FileStore


def test_settings_survive_the_way_through_their_block(tmp_path: Path) -> None:
    for where in ({"dir": tmp_path}, {"dirs": (f"{tmp_path}/a:7", f"{tmp_path}/b:0")}):
        settings = FileStoreSettings.model_validate({**where, "description": "SSD", "weight": 4, "file_mode": "0600"})

        assert block_of(settings).settings() == settings


@pytest.mark.parametrize("credentials", ["", {"access_key": "access", "secret_key": "secret"}])
def test_credentials_survive_it_as_a_nested_block(credentials: object) -> None:
    settings = S3StoreSettings.model_validate({"bucket": "images", "credentials": credentials})
    block = block_of(settings)

    assert isinstance(block.credentials, S3CredentialsBlock) is bool(credentials)
    assert block.settings() == settings


def test_a_block_gives_the_driver_of_its_settings(tmp_path: Path) -> None:
    driver = FileStoreBlock(directory=str(tmp_path)).driver("fast", "catalogue")

    assert isinstance(driver, FileStore)
    assert driver.url_of("id") == f"file://{tmp_path}/id"


@pytest.mark.parametrize(("field", "value"), [("directory", "images"), ("file_mode", "rw-r-----"), ("weight", "heavy")])
def test_settings_that_cannot_be_used_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        FileStoreBlock.model_validate({"directory": "/srv/images", field: value})


@pytest.mark.parametrize(("path", "reason"), [("images:3", "not an absolute path"), ("/srv/a:b", "is not a weight")])
def test_directories_that_cannot_be_used_are_refused(path: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s)directories.*{reason}"):
        FileStoreBlock.model_validate({"directories": [path]})


@pytest.mark.parametrize("store_id", ["fast", "fast-1", "my_store", "Fast", "züri", "a b", "my-store"])
def test_every_store_id_has_a_name_that_prefect_takes(store_id: str) -> None:
    BlockDocumentCreate.model_validate(
        {
            "name": document_name(store_id),
            "block_schema_id": "3f2a1c9e-0000-4000-8000-000000000001",
            "block_type_id": "3f2a1c9e-0000-4000-8000-000000000001",
        }
    )


def test_ids_that_prefect_takes_stay_and_others_never_meet_them() -> None:
    ids = ["my-store", "my_store", "My-Store", "my.store"]

    assert document_name("my-store") == "my-store"
    assert len({document_name(store_id) for store_id in ids}) == len(ids)
