"""Credentials that several stores share: one block in Prefect, to which the blocks of the stores refer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
import requests
from prefect.client.orchestration import get_client

from blocks import S3CredentialsBlock, S3StoreBlock
from blocks.loading import load_settings_of
from config.settings import Settings
from config.settings.stores.s3 import S3StoreSettings
from deployments.change import Action, Change
from deployments.store_blocks import (
    APPLIED_VARIABLE,
    apply_block_types,
    apply_store_blocks,
    has_store_blocks,
    wanted_blocks,
)
from tests.fakes.ports import free_port
from tests.fakes.prefect_server import PrefectServer
from transship.catalog.engine import Catalog
from transship.domain.errors import ConfigurationRefused
from transship.keeper.keeper import Keeper
from transship.keeper.mirror import mirror_stores
from transship.keeper.prefect_api import PrefectApi
from transship.stores_in_force import stores_in_force

pytestmark = pytest.mark.real


@pytest.fixture
def server(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    with prefect_server.as_client():
        # A variable has room for some hundred stores, and all tests of a server share it.
        with suppress(requests.HTTPError):
            prefect_server.ask("DELETE", f"/variables/name/{APPLIED_VARIABLE}")
        yield prefect_server


@pytest.fixture
def unique() -> str:
    return uuid4().hex[:8]


@pytest.fixture
def settings(tmp_path: Path, unique: str) -> Settings:
    """Settings with two buckets of one user, and a store without credentials."""
    bucket = {"type": "s3", "endpoint": f"http://127.0.0.1:{free_port()}", "bucket": "images"}
    return Settings.model_validate(
        {
            "home": tmp_path,
            "s3_credentials": {f"user-{unique}": {"access_key": "former", "secret_key": "hidden"}},
            "stores": {
                **{f"{name}-{unique}": {**bucket, "credentials": f"user-{unique}"} for name in ("one", "two")},
                f"none-{unique}": bucket,
            },
            "default_store": f"one-{unique}",
        }
    )


def with_credentials(settings: Settings, unique: str, name: str, **more: dict[str, str]) -> Settings:
    """Return settings in which the first store names other credentials."""
    changed = settings.model_dump(exclude_unset=True)
    changed["stores"][f"one-{unique}"]["credentials"] = name
    changed["s3_credentials"] |= more
    return Settings.model_validate(changed)


def deployed(settings: Settings, *, overwrite: bool = False) -> dict[str, Change]:
    """Apply the blocks; return what was done by the document's name."""

    async def deploy() -> tuple[Change, ...]:
        async with get_client() as prefect:
            await apply_block_types(prefect)
            return await apply_store_blocks(prefect, settings, overwrite=overwrite)

    return {change.name.partition("/")[2].partition("-")[0]: change for change in anyio.run(deploy)}


def actions(changes: dict[str, Change]) -> dict[str, str]:
    return {name: str(change.action) for name, change in changes.items()}


def document(server: PrefectServer, slug: str, name: str, *, secrets: bool = False) -> Any:
    wanted = f"include_secrets={str(secrets).lower()}"
    return server.ask("GET", f"/block_types/slug/{slug}/block_documents/name/{name}?{wanted}")


def edit(server: PrefectServer, found: Any, **data: object) -> None:
    """Change fields of a document like Prefect's UI."""
    server.ask("PATCH", f"/block_documents/{found['id']}", {"data": data, "merge_existing_data": True})


def keys_of(store: object) -> tuple[str, str] | None:
    assert isinstance(store, S3StoreSettings)
    return store.keys and (store.keys.access_key.get_secret_value(), store.keys.secret_key.get_secret_value())


def keys_in_prefect(settings: Settings) -> dict[str, tuple[str, str] | None]:
    """Return the keys that the next import uses, by the beginning of the store's id."""
    stores = settings.all_stores.items()
    return {store.partition("-")[0]: keys_of(load_settings_of(store, one)) for store, one in stores}


def test_stores_that_share_credentials_refer_to_one_block(
    server: PrefectServer, settings: Settings, unique: str
) -> None:
    created = deployed(settings)
    assert actions(created) == dict.fromkeys(("user", "one", "two", "none"), "created")
    assert [change.kind for change in created.values()] == ["block", *["store block"] * 3]
    assert set(actions(deployed(settings)).values()) == {"unchanged"}

    user = document(server, "s3-credentials", f"user-{unique}")
    assert not {"former", "hidden"} & set(user["data"].values())
    for store in ("one", "two"):
        found = document(server, "image-store-s3", f"{store}-{unique}")
        assert found["block_document_references"]["credentials"]["block_document"]["id"] == user["id"]
        assert "hidden" not in str(found)
    assert keys_in_prefect(settings) == {"one": ("former", "hidden"), "two": ("former", "hidden"), "none": None}
    loaded = S3StoreBlock.load(f"one-{unique}")
    assert isinstance(loaded.credentials, S3CredentialsBlock)
    assert loaded.settings() == settings.all_stores[f"one-{unique}"]


def test_new_keys_in_the_block_are_those_of_every_store_that_refers_to_it(
    server: PrefectServer, settings: Settings, unique: str
) -> None:
    deployed(settings)
    with closing(Catalog.open(settings)) as catalog:
        keeper = Keeper(settings, catalog, PrefectApi(server.url, server.auth_string), "one")
        assert (mirror_stores(keeper), mirror_stores(keeper)) == (3, 0)

        edit(server, document(server, "s3-credentials", f"user-{unique}"), access_key="newer", secret_key="covered")

        assert keys_in_prefect(settings) == {"one": ("newer", "covered"), "two": ("newer", "covered"), "none": None}
        assert (mirror_stores(keeper), mirror_stores(keeper)) == (2, 0)
        seen = stores_in_force(settings, catalog)
        assert [keys_of(store) for store in seen.values()] == [("newer", "covered"), ("newer", "covered"), None]

    kept = deployed(settings)
    assert actions(kept) == {"user": "kept", "one": "unchanged", "two": "unchanged", "none": "unchanged"}
    assert kept["user"].detail == "access_key: a secret that differs, secret_key: a secret that differs"
    assert actions(deployed(settings, overwrite=True))["user"] == "updated"
    assert keys_in_prefect(settings)["two"] == ("former", "hidden")


def test_other_credentials_that_are_chosen_for_a_store_are_kept(
    server: PrefectServer, settings: Settings, unique: str
) -> None:
    deployed(settings)
    mine = S3CredentialsBlock(access_key="mine", secret_key="own").save(f"mine-{unique}")
    store = document(server, "image-store-s3", f"one-{unique}")

    edit(server, store, credentials={"$ref": {"block_document_id": str(mine)}})

    assert keys_in_prefect(settings)["one"] == ("mine", "own")
    change = deployed(settings)["one"]
    assert change.action is Action.KEPT
    assert change.detail == f"credentials: 'mine-{unique}' in Prefect, 'user-{unique}' configured"
    assert actions(deployed(settings, overwrite=True))["one"] == "updated"
    assert keys_in_prefect(settings)["one"] == ("former", "hidden")


def test_other_credentials_in_the_configuration_reach_the_block(
    server: PrefectServer, settings: Settings, unique: str
) -> None:
    deployed(settings)
    other = with_credentials(
        settings, unique, f"other-{unique}", **{f"other-{unique}": {"access_key": "other", "secret_key": "further"}}
    )
    for changed, keys in ((other, ("other", "further")), (with_credentials(settings, unique, ""), None)):
        assert actions(deployed(changed))["one"] == "updated"
        assert keys_in_prefect(changed)["one"] == keys
        assert actions(deployed(changed))["one"] == "unchanged"


def test_credentials_that_were_deleted_in_prefect_are_made_again(
    server: PrefectServer, settings: Settings, unique: str
) -> None:
    async def present() -> bool:
        async with get_client() as prefect:
            return await has_store_blocks(prefect, settings)

    deployed(settings)
    edit(server, document(server, "image-store-s3", f"two-{unique}"), weight=7)
    assert anyio.run(present)
    server.ask("DELETE", f"/block_documents/{document(server, 's3-credentials', f'user-{unique}')['id']}")
    assert not anyio.run(present)
    with pytest.raises(
        ConfigurationRefused, match=r"credentials: Prefect has dropped the reference; .*'transship deploy'"
    ):
        keys_in_prefect(settings)

    assert actions(deployed(settings)) == {"user": "created", "one": "updated", "two": "kept", "none": "unchanged"}

    assert keys_in_prefect(settings)["two"] == ("former", "hidden")
    assert keys_in_prefect(settings)["one"] == ("former", "hidden")


def test_an_edit_in_the_ui_keeps_the_credentials(server: PrefectServer, settings: Settings, unique: str) -> None:
    deployed(settings)
    store = document(server, "image-store-s3", f"one-{unique}")

    edit(server, store, **{**store["data"], "weight": 6})  # the UI sends back what it shows: masked keys
    edit(server, store, weight=7)

    assert load_settings_of(f"one-{unique}", settings.all_stores[f"one-{unique}"]).weight == 7
    assert keys_in_prefect(settings)["one"] == ("former", "hidden")
    assert deployed(settings)["one"].detail == "weight: 7 in Prefect, 0 configured"


def test_masked_keys_are_not_used(server: PrefectServer, settings: Settings, unique: str) -> None:
    deployed(settings)
    store = document(server, "image-store-s3", f"none-{unique}")

    edit(server, store, credentials={"access_key": "********", "secret_key": "********"})

    with pytest.raises(ConfigurationRefused, match=r"only the mask of a key; .* choose the store's credentials again"):
        keys_in_prefect(settings)


def test_half_a_pair_of_keys_in_the_block_is_named(server: PrefectServer, settings: Settings, unique: str) -> None:
    deployed(settings)
    edit(server, document(server, "s3-credentials", f"user-{unique}"), secret_key="")

    with pytest.raises(ConfigurationRefused, match=r"image-store-s3/one.*credentials\.secret_key: is empty"):
        keys_in_prefect(settings)


def test_what_was_applied_to_a_hundred_stores_fits_into_a_variable(tmp_path: Path) -> None:
    stores = {f"store-of-a-zone-{number:04}": {"dir": tmp_path / str(number)} for number in range(100)}
    settings = Settings.model_validate({"home": tmp_path, "stores": stores, "default_store": next(iter(stores))})
    assert len(json.dumps(wanted_blocks(settings))) < 5000
