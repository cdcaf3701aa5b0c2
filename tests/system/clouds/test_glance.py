"""A real Glance with the bucket and the pool of a Transship."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
from sqlalchemy import select

from tests.fakes.openstack_peers import Glance
from tests.fakes.real_stores import KINDS, OCTETS, RealStores
from transship.catalog.engine import Catalog
from transship.catalog.schema import LOCATIONS
from transship.stores.pool import new_driver

pytestmark = [pytest.mark.real, pytest.mark.peers]

STORES = KINDS[1:]
BODY = os.urandom(5 << 20) + bytes(20 << 20) + os.urandom((1 << 20) + 7)
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture(scope="module")
def glance(
    real: RealStores, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Glance]:
    keys, ceph = real.ceph.keys(), real.ceph
    service = {"host": ceph.endpoint, "access_key": keys.access, "secret_key": keys.secret}
    objects = {**service, "bucket": real.buckets["objects"], "bucket_url_format": "path", "region_name": "us-east-1"}
    blocks = {"pool": real.pools["blocks"], "user": ceph.user, "ceph_conf": ceph.conf}
    stores = {
        "objects:s3": {f"s3_store_{name}": value for name, value in objects.items()},
        "blocks:rbd": {f"rbd_store_{name}": value for name, value in blocks.items()},
    }
    with Glance(tmp_path_factory.mktemp("glance"), stores, {"DEFAULT": {"show_multiple_locations": True}}) as running:
        yield running
        if request.session.testsfailed:
            print(running.last_words())


def call(glance: Glance, method: str, path: str, **request: Any) -> requests.Response:
    answer = requests.request(method, f"{glance.url}/v2/images{path}", timeout=120, **request)
    assert answer.ok, answer.text
    return answer


def location(real: RealStores, image_id: str, store: str) -> str:
    """Return the URL that the catalogue records."""
    recorded = select(LOCATIONS.c.url).where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store)
    with closing(Catalog.open(real.system.settings)) as catalog, catalog.read() as connection:
        return str(connection.execute(recorded).scalar_one())


@pytest.mark.parametrize("store", STORES)
def test_a_glance_serves_an_image_at_the_location_that_was_recorded(
    real: RealStores, glance: Glance, store: str
) -> None:
    image_id = real.ask("web-download", BODY, [store])
    assert real.system.ended(image_id)["status"] == "success"
    digest, url = real.system.image(image_id)["os_hash_value"], location(real, image_id, store)

    call(glance, "POST", "", json={"id": image_id, "name": "moved", **FORMATS})
    validation = {"os_hash_algo": "sha512", "os_hash_value": digest}
    added = {"url": url, "metadata": {}, "validation_data": validation}
    patch = [{"op": "add", "path": "/locations/-", "value": added}]
    call(glance, "PATCH", f"/{image_id}", json=patch, headers=PATCH)
    shown = call(glance, "GET", f"/{image_id}").json()
    assert (shown["status"], shown["size"], shown["os_hash_value"]) == ("active", len(BODY), digest)
    assert shown["locations"] == [{"url": url, "metadata": {"store": store}}]

    data = call(glance, "GET", f"/{image_id}/file").content
    assert hashlib.sha512(data).hexdigest() == digest == hashlib.sha512(BODY).hexdigest()

    # Both records name the same data.
    call(glance, "DELETE", f"/{image_id}")
    assert real.traces(store, image_id) == set()
    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, store)


@pytest.mark.parametrize("store", STORES)
def test_an_image_that_a_glance_wrote_is_read_at_its_location(real: RealStores, glance: Glance, store: str) -> None:
    image_id = call(glance, "POST", "", json={"name": "of Glance", **FORMATS}).json()["id"]
    call(glance, "PUT", f"/{image_id}/file", data=BODY, headers={**OCTETS, "X-Image-Meta-Store": store})
    (kept,) = call(glance, "GET", f"/{image_id}").json()["locations"]

    with closing(Catalog.open(real.system.settings)) as catalog:
        driver = new_driver(store, real.system.settings.all_stores[store], catalog.id())
    with closing(driver):
        driver.open()
        assert kept == {"url": driver.url_of(image_id), "metadata": {"store": store}}
        assert b"".join(driver.read(kept["url"])) == BODY
    call(glance, "DELETE", f"/{image_id}")
