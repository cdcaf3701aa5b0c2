"""A new kind of store needs only an entry point (tests/fakes/parts_store.py); no product file names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from prefect.client.orchestration import get_client

from blocks import block_of
from blocks.loading import load_settings_of
from config.loading import load_settings
from config.options import option_values
from config.settings.stores import kinds
from config.show import option_rows
from config.snapshot import Sources, read_snapshot, take_snapshot
from deployments.change import Action
from deployments.store_blocks import apply_block_types, apply_store_blocks
from tasks.place import place, unplace
from tests.fakes.images import read_image
from tests.fakes.images_api import ApiServer
from tests.fakes.parts_store import KIND, PartsStore, PartsStoreSettings
from tests.fakes.prefect_server import PrefectServer
from tests.fakes.running_import import begin, begin_again, location, session_of, staged_file
from tests.fakes.web_imports import run
from tests.fakes.web_server import WebServer
from tests.flows.conftest import Site
from transship.api.app import build_app
from transship.commands.doctor import Level, check_catalog
from transship.domain.errors import StoreUnavailable
from transship.domain.image import ImageStatus
from transship.keeper.keeper import Keeper
from transship.keeper.mirror import mirror_stores
from transship.keeper.prefect_api import PrefectApi
from transship.stores.pool import DRIVERS
from transship.stores_in_force import stores_in_force

KIB = 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a distribution that brings the kind."""
    directory = tmp_path_factory.mktemp("site-packages")
    about = directory / "transship_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: transship-parts\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{kinds.GROUP}]\nparts = tests.fakes.parts_store:KIND\n")
    monkeypatch.syspath_prepend(directory)
    kinds._from_elsewhere.cache_clear()
    monkeypatch.setattr(PartsStore, "history", [])
    yield
    DRIVERS.close()
    kinds._from_elsewhere.cache_clear()


@pytest.fixture
def store_id(site: Site) -> str:
    """The site's one store, of the further kind; its id is no other test's."""
    store_id = f"shelf-{uuid4().hex[:8]}"
    section = {"type": "parts", "dir": str(site.home / "shelf"), "part_kib": 4, "key": "hidden", "weight": 7}
    site.set(stores=json.dumps({store_id: section}), default_store=store_id)
    site.deploy()
    return store_id


@pytest.fixture
def client(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    with prefect_server.as_client():
        yield prefect_server


def test_no_product_file_names_it() -> None:
    for room in ("config", "blocks", "deployments", "flows", "tasks", "transship"):
        for file in (ROOT / room).rglob("*.py"):
            assert "parts_store" not in file.read_text(), file


def test_its_settings_are_loaded_shown_and_handed_on(site: Site, store_id: str, tmp_path: Path) -> None:
    site.set(**{f"stores__{store_id.upper()}__part_kib": "8"})
    loaded = load_settings()
    assert isinstance(loaded.settings.all_stores[store_id], PartsStoreSettings)
    assert option_values(loaded.settings)["stores", store_id, "part_kib"] == 8
    shown = {row.option: row.value for row in option_rows(loaded)}
    assert shown[f"stores.{store_id}.part_kib"] == "8"
    assert "hidden" not in str(shown)
    taken = take_snapshot(loaded, Sources(), supervised=False)
    assert read_snapshot(taken).loaded.settings.stores == loaded.settings.stores


def test_a_glance_of_such_stores_is_read(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "glance-api.conf"
    text = "[DEFAULT]\nenabled_backends = a:parts\n[glance_store]\ndefault_backend = a\n[a]\nparts_store_dir = /srv/a\n"
    file.write_text(text + "parts_store_size = 64\nweight = 3\nparts_store_key = k\n")
    site.set(glance_config=str(file))
    expected = {"dir": Path("/srv/a"), "part_kib": 64, "weight": 3, "key": "k"}
    assert load_settings().settings.all_stores["a"] == PartsStoreSettings.model_validate(expected)


@pytest.mark.real
def test_its_block_is_deployed_edited_and_mirrored(site: Site, store_id: str, client: PrefectServer) -> None:
    async def deploy(*, overwrite: bool = False) -> list[tuple[str, Action, str]]:
        async with get_client() as prefect:
            types = await apply_block_types(prefect)
            documents = await apply_store_blocks(prefect, site.settings, overwrite=overwrite)
        assert KIND.slug in [each.name for each in types]
        return [(each.name, each.action, each.detail) for each in documents]

    name, configured = f"{KIND.slug}/{store_id}", site.settings.all_stores[store_id]
    assert anyio.run(deploy) == [(name, Action.CREATED, "")]
    assert anyio.run(deploy) == [(name, Action.UNCHANGED, "")]
    assert load_settings_of(store_id, configured) == configured == block_of(configured).settings()

    keeper = Keeper(site.settings, site.catalog, PrefectApi(client.url, client.auth_string), "one")
    assert (mirror_stores(keeper), mirror_stores(keeper)) == (1, 0)
    assert stores_in_force(site.settings, site.catalog)[store_id] == configured

    document = client.ask("POST", "/block_documents/filter", {"block_documents": {"name": {"any_": [store_id]}}})[0]
    edit = {"data": {"directory": str(site.home / "other"), "key": "changed"}, "merge_existing_data": True}
    client.ask("PATCH", f"/block_documents/{document['id']}", edit)
    edited = configured.model_copy(update={"dir": site.home / "other", "key": type(configured.key)("changed")})  # type: ignore[attr-defined]  # of the further kind
    assert load_settings_of(store_id, configured) == edited
    assert (mirror_stores(keeper), mirror_stores(keeper)) == (1, 0)
    assert stores_in_force(site.settings, site.catalog)[store_id] == edited
    assert (site.home / "other").is_dir()

    ((_, action, difference),) = anyio.run(deploy)
    assert action is Action.KEPT
    assert "key: a secret that differs" in difference
    assert "changed" not in difference
    assert "hidden" not in difference


@pytest.mark.real
@pytest.mark.usefixtures("prefect_client")
def test_an_image_is_imported_into_it(site: Site, store_id: str, server: WebServer) -> None:
    data = bytes(range(256)) * 64
    state, image_id = run(server.serve("/disk.raw", data))
    assert (state.name, state.message) == ("Imported", f"imported to {store_id}")
    assert read_image(site.catalog, image_id).status is ImageStatus.ACTIVE
    assert (site.home / "shelf" / image_id).read_bytes() == data
    copy = location(site.catalog, image_id, store_id)
    assert copy is not None
    assert (copy.state, copy.proof, copy.put_token) == ("active", "parts", None)


def test_its_details_and_its_health_are_shown(site: Site, store_id: str) -> None:
    with ApiServer() as api:
        api.serve(build_app(site.settings, site.catalog))
        (details,) = api.client.get("/v2/info/stores/detail").json()["stores"]
    assert details == {
        "id": store_id,
        "default": "true",
        "type": "parts",
        "weight": 7,
        "properties": {"part_size": 4 * KIB},
    }
    (found,) = (finding for finding in check_catalog(site.settings) if finding.subject == f"store {store_id}")
    assert found.level is Level.OK
    assert found.text.startswith("a shelf of parts: ")
    (site.home / "shelf").rename(site.home / "elsewhere")
    (found,) = (finding for finding in check_catalog(site.settings) if finding.subject == f"store {store_id}")
    assert found.level is Level.FAIL
    assert f"Mount {site.home / 'shelf'}" in found.text


def test_an_interrupted_put_is_resumed_by_its_token(site: Site, store_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, data = site.settings, bytes(range(256)) * 80  # five parts

    def fail_at_the_fourth(number: int) -> None:
        if number == 3:
            raise StoreUnavailable(store_id, "the line was cut")

    begun = begin(site.catalog, "http://source.example/disk.img", store_id)
    monkeypatch.setattr(PartsStore, "before_part", staticmethod(fail_at_the_fourth))
    with session_of(settings, site.catalog, begun) as session:
        staged = staged_file(session, data)
        with pytest.raises(StoreUnavailable):
            place.fn(store_id, staged)
    kept = location(site.catalog, begun.image.id, store_id)
    assert kept is not None
    assert (kept.state, kept.epoch) == ("uploading", begun.lease.epoch)
    assert [path.name for path in (site.home / "shelf.uploads").iterdir()] == [kept.put_token]

    monkeypatch.setattr(PartsStore, "before_part", staticmethod(lambda _number: None))
    again = begin_again(site.catalog, begun.lease)
    with session_of(settings, site.catalog, again):
        place.fn(store_id, staged)
    parts = [step for step in PartsStore.history if isinstance(step, int)]
    assert parts == [0, 1, 2, 3, 4]
    assert (site.home / "shelf" / begun.image.id).read_bytes() == data
    assert list((site.home / "shelf.uploads").iterdir()) == []
    written = location(site.catalog, begun.image.id, store_id)
    assert written is not None
    assert (written.state, written.epoch, written.put_token) == ("stored", again.lease.epoch, None)


def test_an_unfinished_put_that_is_given_up_leaves_nothing(
    site: Site, store_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_number: int) -> None:
        raise StoreUnavailable(store_id, "the line was cut")

    monkeypatch.setattr(PartsStore, "before_part", staticmethod(fail))
    begun = begin(site.catalog, "http://source.example/disk.img", store_id)
    with session_of(site.settings, site.catalog, begun) as session:
        with pytest.raises(StoreUnavailable):
            place.fn(store_id, staged_file(session, b"data"))
        assert list((site.home / "shelf.uploads").iterdir()) != []
        unplace(session, store_id)
    assert list((site.home / "shelf.uploads").iterdir()) == []
    assert location(site.catalog, begun.image.id, store_id) is None
