"""Registered locations on stores of all kinds: read where they are, and copied to the others, but never to the web."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.fakes.real_stores import KINDS, SLOW, WEB, RealStores
from tests.fakes.web_server import whole

pytestmark = [pytest.mark.real, pytest.mark.peers]

BODY = os.urandom(5 << 20) + bytes(3 << 20) + os.urandom((1 << 20) + 7)
DIGEST = hashlib.sha512(BODY).hexdigest()


@pytest.mark.parametrize("announced", [False, True], ids=["hashed-later", "proven-first"])
def test_an_image_at_a_url_is_read_in_ranges_and_copied_to_all_other_stores(real: RealStores, announced: bool) -> None:
    image_id = real.system.create(name="at a URL")
    url = real.source.on(f"/{image_id}.img", whole(BODY))
    known = {"validation_data": {"os_hash_algo": "sha512", "os_hash_value": DIGEST}} if announced else {}
    registered = real.system.api("POST", f"/v2/images/{image_id}/locations", json={"url": url, **known})
    assert registered.status_code == 202, registered.text
    task = real.system.ended(image_id)
    assert (task["type"], task["status"]) == ("location_import", "success"), task["message"]
    image = real.system.image(image_id)
    assert (image["status"], image["size"], image["os_hash_value"]) == ("active", len(BODY), DIGEST)
    listed = real.system.api("GET", f"/v2/images/{image_id}/locations")
    assert listed.json() == [{"url": url, "metadata": {"store": WEB}}]

    ranged = real.system.api("GET", f"/v2/images/{image_id}/file", headers={"Range": "bytes=5242870-8388618"})
    assert (ranged.status_code, ranged.content) == (206, BODY[5242870:8388619])

    asked = real.system.api(
        "POST", f"/v2/images/{image_id}/import", json={"method": {"name": "copy-image"}, "all_stores": True}
    )
    assert asked.status_code == 202, asked.text
    task = real.system.ended(image_id)
    assert (task["type"], task["status"]) == ("api_image_import", "success"), task["message"]
    written = (*KINDS, *SLOW)
    assert set(task["input"]["backend"]) == set(written)
    assert set(real.system.image(image_id)["stores"].split(",")) == {WEB, *written}
    assert {store: real.digest(store, image_id) for store in written} == dict.fromkeys(written, DIGEST)

    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, *written)
    assert {request.method for request in real.source.requests(f"/{image_id}.img")} == {"GET"}


@pytest.mark.parametrize("store", KINDS)
def test_data_that_a_service_left_in_a_store_become_an_images_where_they_are(real: RealStores, store: str) -> None:
    """What Nova does with a snapshot: it writes the data itself, and adds their location."""
    donor = real.ask("web-download", BODY, [store])
    assert real.system.ended(donor)["status"] == "success"
    image_id = real.system.create(name="a snapshot")
    url = real.left_behind(store, donor, image_id)
    patch = [{"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    added = real.system.api("PATCH", f"/v2/images/{image_id}", json=patch, headers=headers)
    assert added.status_code == 200, added.text
    shown = added.json()
    assert (shown["status"], shown["size"], shown["stores"]) == ("active", len(BODY), store)
    assert shown["locations"] == [{"url": url, "metadata": {"store": store}}]
    assert real.system.api("GET", f"/v2/images/{image_id}/file").content == BODY
    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, store)
    assert real.digest(store, donor) == DIGEST
