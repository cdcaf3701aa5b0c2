"""Imports that end, are killed or lose their store while they write to a real bucket or pool."""

from __future__ import annotations

import os
import signal

import pytest

from tests.fakes.real_stores import CREDENTIALS, SLOW, RealStores
from tests.fakes.system import until

pytestmark = [pytest.mark.real, pytest.mark.peers, pytest.mark.faults]

BODY = os.urandom(72 << 20)
"""Takes some seconds to be written to a slow store, in several parts."""


def writing(real: RealStores, store: str) -> str:
    """Begin an import into a slow store; return its image when some bytes are there."""
    image_id = real.ask("web-download", BODY, [store])
    real.await_bytes(image_id, store)
    return image_id


@pytest.mark.parametrize("store", SLOW)
def test_a_cancelled_import_leaves_nothing(real: RealStores, store: str) -> None:
    image_id = writing(real, store)
    real.system.set_state(real.system.flow_run(image_id)["id"], "CANCELLING", "Cancelling")
    assert real.system.ended(image_id)["status"] == "failure"
    real.await_nothing(image_id, store)
    assert real.system.image(image_id)["status"] == "queued"


@pytest.mark.parametrize("store", SLOW)
def test_an_image_that_is_deleted_while_it_is_written_leaves_nothing(real: RealStores, store: str) -> None:
    image_id = writing(real, store)
    assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    real.await_nothing(image_id, store)


@pytest.mark.parametrize("store", SLOW)
def test_a_killed_import_goes_on_and_leaves_nothing_else(real: RealStores, store: str) -> None:
    image_id = writing(real, store)
    carriers = real.system.carriers()
    for pid in carriers:
        os.kill(pid, signal.SIGKILL)
    task = real.system.ended(image_id)
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, store)


def copying(real: RealStores) -> str:
    """Begin a copy from one bucket to another; return its image when some bytes are there."""
    image_id = real.ask("web-download", BODY, ["objects"])
    assert real.system.ended(image_id)["status"] == "success"
    real.request(image_id, {"name": "copy-image"}, ["slow-objects"])
    real.await_bytes(image_id, "slow-objects")
    return image_id


def test_a_cancelled_copy_between_buckets_leaves_nothing(real: RealStores) -> None:
    image_id = copying(real)
    real.system.set_state(real.system.flow_run(image_id)["id"], "CANCELLING", "Cancelling")
    assert real.system.ended(image_id)["status"] == "failure"
    real.await_nothing(image_id, "slow-objects")
    real.assert_holds(image_id, BODY, "objects")


def test_a_killed_copy_between_buckets_goes_on_and_leaves_nothing_else(real: RealStores) -> None:
    image_id = copying(real)
    for pid in real.system.carriers():
        os.kill(pid, signal.SIGKILL)
    task = real.system.ended(image_id)
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, "objects", "slow-objects")


@pytest.mark.parametrize("daemon", ["rgw", "osd"])
def test_a_store_that_comes_back_gets_its_copy_by_a_rerun(real: RealStores, daemon: str) -> None:
    failing = {"rgw": "slow-objects", "osd": "slow-blocks"}[daemon]
    with real.ceph.without(daemon):
        image_id = real.ask("web-download", BODY, ["files", failing], all_stores_must_succeed=False)
        assert real.system.ended(image_id, 540.0)["status"] == "success"
        image = real.system.image(image_id)
        assert (image["stores"], image["os_glance_failed_import"]) == ("files", failing)
    written = (real.system.settings.all_stores["files"].dir / image_id).stat()
    done = real.system.command("rerun", image_id)
    assert done.returncode == 0, done.stdout + done.stderr
    real.assert_holds(image_id, BODY, "files", failing)
    assert (real.system.settings.all_stores["files"].dir / image_id).stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.parametrize(("daemon", "store"), [("rgw", "slow-objects"), ("osd", "slow-blocks")])
def test_a_daemon_that_restarts_while_it_is_written_to_costs_no_import(
    real: RealStores, daemon: str, store: str
) -> None:
    image_id = writing(real, store)
    real.ceph.stop(daemon)
    real.ceph.start(daemon)
    task = real.system.ended(image_id)
    assert task["status"] == "success", task["message"]
    real.assert_holds(image_id, BODY, store)


def test_a_full_pool_fails_its_store_alone_and_keeps_no_half_image(real: RealStores) -> None:
    pool = real.pools["blocks"]
    filler = real.ask("web-download", BODY, ["blocks"])
    assert real.system.ended(filler)["status"] == "success"
    real.ceph.quota(pool, 1 << 20)
    try:
        until(lambda: "full_quota" in real.flags_of(pool), 180.0, "the pool is full")
        image_id = real.ask("web-download", BODY, ["files", "blocks"], all_stores_must_succeed=False)
        assert real.system.ended(image_id, 540.0)["status"] == "success"
        image = real.system.image(image_id)
        assert (image["stores"], image["os_glance_failed_import"]) == ("files", "blocks")
        assert "full" in real.system.task(image_id)["message"]
    finally:
        real.ceph.quota(pool, 0)
        until(lambda: "full" not in real.flags_of(pool), 180.0, "the pool has room")
    real.await_nothing(image_id, "blocks")
    assert real.system.api("DELETE", f"/v2/images/{filler}").status_code == 204


def test_an_edited_block_is_used_by_the_next_import_and_shown_by_the_api(real: RealStores) -> None:
    def chunk_size() -> object:
        shown = real.system.api("GET", "/v2/info/stores/detail").json()["stores"]
        return next(each["properties"] for each in shown if each["id"] == "blocks").get("pool")

    pool = real.ceph.new_pool()
    with real.edited("blocks", pool=pool):
        until(lambda: chunk_size() == pool, 180.0, "the edited pool in the API")
        image_id = real.ask("web-download", BODY, ["blocks"])
        task = real.system.ended(image_id)
        assert task["status"] == "success", task["message"]
        assert image_id in real.block_images(pool)
        assert image_id not in real.block_images(real.pools["blocks"])
        assert real.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
        until(lambda: image_id not in real.block_images(pool), 180.0, "the image's removal")


def test_new_keys_in_the_block_of_credentials_mend_every_bucket_that_uses_them(real: RealStores) -> None:
    def downloaded() -> bytes | None:
        answer = real.system.api("GET", f"/v2/images/{image_id}/file")
        return answer.content if answer.status_code == 200 else None

    body, buckets = os.urandom(6 << 20), ["objects", "slow-objects"]
    revoked = real.ceph.further_keys()
    with real.edited(CREDENTIALS, access_key=revoked.access, secret_key=revoked.secret):
        image_id = real.ask("web-download", body, buckets)
        assert real.system.ended(image_id)["status"] == "success"
        real.ceph.revoke(revoked)
        failed = real.ask("web-download", body, ["files", *buckets], all_stores_must_succeed=False)
        assert real.system.ended(failed)["status"] == "success"
        message = real.system.task(failed)["message"]
        assert all(f"store {store} denies access" in message for store in buckets)
        until(lambda: downloaded() is None, 180.0, "the API to see the revoked keys")
    until(lambda: downloaded() == body, 180.0, "the API to see the new keys")
    done = real.system.command("rerun", failed)
    assert done.returncode == 0, done.stdout + done.stderr
    real.assert_holds(failed, body, "files", *buckets)
    told = [message, *(path.read_text() for path in (real.system.home / "log").glob("*.log"))]
    assert not any(revoked.secret in text for text in told)
