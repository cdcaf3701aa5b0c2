"""A real Debian disk, unpacked and converted to raw, in a directory, a bucket and a pool at once."""

from __future__ import annotations

import json

import pytest

from tests.fakes.debian_disk import VIRTUAL_BYTES, debian_disk
from tests.fakes.real_stores import KINDS, RealStores

pytestmark = [pytest.mark.real, pytest.mark.peers]


def test_a_debian_disk_is_the_same_in_every_kind_of_store(
    real: RealStores, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = debian_disk(tmp_path_factory)
    uri = real.source.serve("/debian.qcow2.gz", disk.packed.read_bytes())
    image_id = real.system.create(name="debian", disk_format="qcow2")
    real.request(image_id, {"name": "web-download", "uri": uri}, KINDS)
    task = real.system.ended(image_id, 540.0)
    assert task["status"] == "success", task["message"]
    image = real.system.image(image_id)
    assert (image["disk_format"], image["size"], image["os_hash_value"]) == ("raw", VIRTUAL_BYTES, disk.by_hand)
    assert {store: real.digest(store, image_id) for store in KINDS} == dict.fromkeys(KINDS, disk.by_hand)

    pool = real.pools["blocks"]
    (used,) = json.loads(real.ceph.run("rbd", "du", f"{pool}/{image_id}@snap", "--format", "json"))["images"]
    assert used["provisioned_size"] == VIRTUAL_BYTES
    assert used["used_size"] < VIRTUAL_BYTES / 3

    # What Nova and Cinder do with it.
    real.ceph.run("rbd", "clone", f"{pool}/{image_id}@snap", f"{pool}/volume-1")
    info = json.loads(real.ceph.run("rbd", "info", f"{pool}/volume-1", "--format", "json"))
    assert (info["size"], info["parent"]["image"]) == (VIRTUAL_BYTES, image_id)
    real.ceph.run("rbd", "rm", "--no-progress", f"{pool}/volume-1")
    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, *KINDS)
