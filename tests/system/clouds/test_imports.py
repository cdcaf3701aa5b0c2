"""Imports into real stores of all kinds at once, by every method, and copies between them."""

from __future__ import annotations

import hashlib
import os
from itertools import permutations

import pytest

from tests.fakes.real_stores import KINDS, METHODS, RealStores

pytestmark = [pytest.mark.real, pytest.mark.peers]

BODY = os.urandom(20 << 20) + bytes(20 << 20) + os.urandom((1 << 20) + 7)
"""With a hole, and an end that is no multiple of any block."""


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_every_kind_of_store(real: RealStores, method: str) -> None:
    copied = method == "copy-image"
    image_id = real.ask(method, BODY, KINDS[1:] if copied else KINDS)
    task = real.system.ended(image_id)
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, *KINDS)


@pytest.mark.parametrize(("origin", "target"), list(permutations(KINDS, 2)))
def test_an_image_is_copied_from_each_kind_to_each_other(real: RealStores, origin: str, target: str) -> None:
    image_id = real.ask("web-download", BODY, [origin])
    assert real.system.ended(image_id)["status"] == "success"
    task = real.copied(image_id, target)
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, origin, target)


def test_a_bucket_copies_from_another_one_and_nothing_is_staged(real: RealStores) -> None:
    image_id = real.ask("web-download", BODY, ["objects"])
    assert real.system.ended(image_id)["status"] == "success"
    task = real.copied(image_id, "slow-objects")
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, "objects", "slow-objects")
    run_id = real.system.flow_run(image_id)["id"]
    steps = real.system.prefect("POST", "/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run_id]}}})
    fetch = next(each for each in steps if each["name"] == "fetch the image's data")
    assert fetch["state"]["message"] == "the stores copy it from objects themselves"


@pytest.mark.parametrize("store", KINDS)
def test_an_image_is_downloaded_whole_and_in_ranges_from_each_kind(real: RealStores, store: str) -> None:
    image_id = real.ask("web-download", BODY, [store])
    assert real.system.ended(image_id)["status"] == "success"
    path = f"/v2/images/{image_id}/file"
    assert hashlib.sha512(real.system.api("GET", path).content).digest() == hashlib.sha512(BODY).digest()
    ranged = real.system.api("GET", path, headers={"Range": "bytes=20971510-41943050"})
    assert (ranged.status_code, ranged.content) == (206, BODY[20971510:41943051])


@pytest.mark.parametrize("store", KINDS)
def test_a_deleted_image_leaves_nothing(real: RealStores, store: str) -> None:
    image_id = real.ask("web-download", BODY, [store])
    assert real.system.ended(image_id)["status"] == "success"
    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, store)
