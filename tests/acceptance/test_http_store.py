"""A store of type http beside a file store: never a target, and its copies are read and forgotten, never removed."""

from __future__ import annotations

import hashlib
import json
import os
from uuid import uuid4

import pytest
from sqlalchemy import insert, update

from config.loading import load_settings
from flows.verify_images import verify_images
from tasks.sweep import sweep_stores
from tests.fakes.asked_imports import AskedImports
from tests.fakes.images import NOW, queued_image
from tests.fakes.web_server import WebServer, answer
from tests.flows.conftest import Site
from transship.catalog.journal import find_location
from transship.catalog.schema import IMAGES, LOCATIONS
from transship.commands.doctor import Level, check_catalog
from transship.domain.errors import ConfigurationRefused
from transship.domain.image import ImageStatus
from transship.stores_in_force import store_problem

pytestmark = pytest.mark.real

BODY = os.urandom(3 * 1024 * 1024 + 5)
PATH = "/pool/noble.img"


class Web:
    """A site with the file store ``local``, the default one, and a store of type http.

    Attributes:
        store: id of the http store; no other test has it.
        url: of an image on the web server.
    """

    def __init__(self, imports: AskedImports, server: WebServer) -> None:
        self.imports, self.server, self.site = imports, server, imports.site
        self.store = f"web-{uuid4().hex[:8]}"
        sections = {"local": {"dir": str(self.site.home / "images")}, self.store: {"type": "http", "weight": 9}}
        self.site.set(stores=json.dumps(sections))
        self.url = server.serve(PATH, BODY)

    def adopted(self, *stores: str) -> str:
        """Add an active image whose data are at the URL, as an import from another catalogue would; return its id."""
        image = queued_image(self.site.catalog)
        facts = {"checksum": hashlib.md5(BODY, usedforsecurity=False).hexdigest(), "os_hash_algo": "sha512"}
        facts |= {"os_hash_value": hashlib.sha512(BODY).hexdigest()}
        with self.site.catalog.write() as connection:
            values = {"status": ImageStatus.ACTIVE, "size": len(BODY), **facts}
            connection.execute(update(IMAGES).where(IMAGES.c.id == image.id).values(values))
            row = {"image_id": image.id, "state": "active", "epoch": 0, "proof": "", "copied_from": ""}
            row |= {"created_at": NOW, "updated_at": NOW, "size": len(BODY)}
            connection.execute(insert(LOCATIONS).values(**row, store=self.store, url=self.url))
        for store in stores:
            self.copy(image.id, store)
        return image.id

    def copy(self, image_id: str, store: str) -> None:
        body = {"method": {"name": "copy-image"}, "stores": [store]}
        asked = self.imports.api("POST", f"/v2/images/{image_id}/import", json=body)
        assert asked.status_code == 202, asked.text
        state = self.imports.carry(image_id)
        assert state.name == "Imported", state.message

    def has_row(self, image_id: str) -> bool:
        with self.site.catalog.read() as connection:
            return find_location(connection, image_id, self.store) is not None


@pytest.fixture
def web(imports: AskedImports, server: WebServer) -> Web:
    return Web(imports, server)


def test_case_02_discovery_shows_the_read_only_store(web: Web) -> None:
    web.site.set(api__auth="none")
    listed = web.imports.api("GET", "/v2/info/stores").json()["stores"]
    assert listed == [{"id": "local", "default": "true"}, {"id": web.store, "read-only": "true"}]
    detailed = web.imports.api("GET", "/v2/info/stores/detail").json()["stores"]
    shown = {"id": web.store, "read-only": "true", "type": "http", "weight": 9, "properties": {}}
    assert detailed[1] == shown


def test_case_44_a_read_only_store_is_never_a_target(web: Web) -> None:
    image_id = web.imports.create()
    for refused in (
        web.imports.ask(image_id, web.url, stores=[web.store]),
        web.imports.api(
            "POST",
            f"/v2/images/{image_id}/import",
            json={"method": {"name": "web-download", "uri": web.url}},
            headers={"X-Image-Meta-Store": web.store},
        ),
    ):
        assert refused.status_code == 409
        assert "is read-only and cannot be imported to" in refused.text
    upload = {"Content-Type": "application/octet-stream", "X-Image-Meta-Store": web.store}
    refused = web.imports.api("PUT", f"/v2/images/{image_id}/file", content=BODY, headers=upload)
    assert (refused.status_code, "is read-only" in refused.text) == (400, True)
    assert web.imports.ask(image_id, web.url, all_stores=True).status_code == 202
    assert web.imports.task(image_id).input["backend"] == ["local"]


def test_the_data_at_a_url_are_downloaded_whole_and_in_ranges(web: Web) -> None:
    image_id = web.adopted()
    whole = web.imports.api("GET", f"/v2/images/{image_id}/file")
    assert (whole.status_code, whole.content) == (200, BODY)
    part = web.imports.api("GET", f"/v2/images/{image_id}/file", headers={"Range": "bytes=1000000-2999999"})
    assert (part.status_code, part.content) == (206, BODY[1000000:3000000])


def test_the_data_at_a_url_are_copied_to_another_store(web: Web) -> None:
    image_id = web.adopted("local")
    assert web.imports.shown(image_id)["stores"] == f"{web.store},local"
    assert web.site.stored() == {image_id: BODY}
    assert web.imports.api("GET", f"/v2/images/{image_id}/file").content == BODY


def test_a_download_falls_back_to_another_store(web: Web) -> None:
    image_id = web.adopted("local")
    web.server.on(PATH, answer(404))
    assert web.imports.api("GET", f"/v2/images/{image_id}/file").content == BODY


def test_a_url_that_the_rules_refuse_is_not_requested(web: Web) -> None:
    image_id = web.adopted()
    before = len(web.server.requests(PATH))
    web.site.set(uri__allowed_hosts="images.example.org")
    assert web.imports.api("GET", f"/v2/images/{image_id}/file").status_code == 503
    assert len(web.server.requests(PATH)) == before


def test_other_data_than_were_recorded_are_refused(web: Web) -> None:
    image_id = web.adopted()
    web.server.serve(PATH, BODY[:-1])
    assert web.imports.api("GET", f"/v2/images/{image_id}/file").status_code == 503


def test_deleting_a_copy_or_its_image_forgets_the_location_alone(web: Web) -> None:
    image_id = web.adopted("local")
    assert web.imports.api("DELETE", f"/v2/stores/{web.store}/{image_id}").status_code == 204
    assert web.imports.shown(image_id)["stores"] == "local"
    assert not web.has_row(image_id)
    other = web.adopted()
    assert web.imports.api("DELETE", f"/v2/images/{other}").status_code == 204
    assert not web.has_row(other)
    assert {request.method for request in web.server.requests(PATH)} == {"GET"}


def test_housekeeping_forgets_a_left_location_and_lists_nothing(web: Web) -> None:
    image_id = web.adopted()
    with web.site.catalog.write() as connection:
        connection.execute(update(LOCATIONS).values(state="deleting"))
    swept = sweep_stores.fn()
    assert (swept.removed, swept.kept, swept.unknown) == ((), (), ())
    assert not web.has_row(image_id)


def test_a_damaged_copy_is_reported_and_not_given_up(web: Web) -> None:
    image_id = web.adopted("local")
    web.server.serve(PATH, BODY[::-1])
    every = verify_images(return_state=True)
    assert (every.name, "1 copy verified" in str(every.message)) == ("Completed", True)
    asked = verify_images(stores=[web.store], repair=True, return_state=True)
    assert (asked.name, "1 damaged" in str(asked.message)) == ("Failed", True)
    assert web.has_row(image_id)
    assert web.imports.shown(image_id)["status"] == "active"


def test_operators_see_that_it_is_only_read(web: Web) -> None:
    web.site.deploy()
    (found,) = (each for each in check_catalog(web.site.settings) if each.subject == f"store {web.store}")
    assert (found.level, found.text) == (Level.OK, "is only read")
    missing = web.site.home / "missing.pem"
    settings = web.site.settings.all_stores[web.store].model_copy(update={"ca_file": missing})
    problem = store_problem(web.site.catalog, web.store, settings)
    assert "ca_file" in problem
    assert "transship check-uri" in problem


@pytest.mark.parametrize(
    ("default", "others", "text"),
    [
        ("web", {}, "no store can be written; web can only be read; add one to stores, e.g. of type file"),
        ("local", {}, "no store can be written; web can only be read; add one to stores, e.g. of type file"),
        ("web", {"fast": {"dir": "/srv/fast"}}, "default_store web can only be read; choose from fast"),
    ],
)
def test_a_site_whose_imports_could_go_nowhere_is_refused(
    default: str, others: dict[str, object], text: str, site: Site
) -> None:
    site.set(stores=json.dumps({"web": {"type": "http"}, **others}), default_store=default)
    with pytest.raises(ConfigurationRefused) as refused:
        load_settings()
    assert text in refused.value.told
