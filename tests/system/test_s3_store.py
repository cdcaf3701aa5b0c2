"""Imports into a directory and a bucket at once: a rerun writes the bucket alone, giving up leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.s3_server import Hold, S3Server, error
from tests.fakes.system import System, until
from tests.fakes.web_server import WebServer
from transship.host.directories import MARK

pytestmark = pytest.mark.real

STORES = ["local", "objects"]
PART_BYTES = 5 << 20
BODY = os.urandom(3 * PART_BYTES + 1)


@dataclass(frozen=True)
class Site:
    """A running system, its bucket, and the URL of an image."""

    system: System
    service: S3Server
    bucket: str
    url: str

    def ask(self) -> str:
        """Request an import into both stores; return the image's id."""
        image_id = self.system.create()
        asked = self.system.ask(image_id, self.url, stores=STORES, all_stores_must_succeed=False)
        assert asked.status_code == 202, asked.text
        return image_id

    def left(self) -> tuple[set[str], int]:
        """Return the keys in the bucket but the mark, and the number of unfinished uploads."""
        return set(self.service.buckets[self.bucket]) - {MARK}, len(self.service.uploads[self.bucket])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("objects")
    with S3Server() as service, WebServer() as source:
        bucket = service.new_bucket()
        objects = {
            "type": "s3",
            "endpoint": service.endpoint,
            "bucket": bucket,
            "access_key": "access",
            "secret_key": "secret",
            "addressing_style": "path",
            "part_mib": PART_BYTES >> 20,
        }
        options = {
            "stores": {"local": {"dir": str(home / "images")}, "objects": objects},
            "default_store": "local",
            "uri.allowed_hosts": ["127.0.0.1"],
            "uri.allowed_ports": [source.port],
        }
        with System(home, options) as system:
            yield Site(system, service, bucket, source.serve("/image", BODY))


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.service.cancel("UploadPart")
    running.service.buckets[running.bucket] = {MARK: running.service.buckets[running.bucket][MARK]}


def test_an_image_arrives_in_both_stores_and_is_read_from_the_bucket(site: Site) -> None:
    image_id = site.ask()

    assert site.system.ended(image_id)["status"] == "success", site.system.logs()
    assert site.system.image(image_id)["stores"] == ",".join(STORES)
    assert site.left() == ({image_id}, 0)
    assert site.service.buckets[site.bucket][image_id][0] == BODY
    assert site.system.api("DELETE", f"/v2/stores/local/{image_id}").status_code == 204
    assert site.system.api("GET", f"/v2/images/{image_id}/file").content == BODY

    assert site.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204
    until(lambda: site.left() == (set(), 0), what="the object is removed")


def test_a_retry_writes_the_bucket_alone(site: Site) -> None:
    site.service.then("UploadPart", *[error(403, "AccessDenied")] * 8)
    image_id = site.ask()
    ended = site.system.ended(image_id)
    image = site.system.image(image_id)
    assert (image["stores"], image["os_glance_failed_import"]) == ("local", "objects")
    assert "the credentials do not permit it; give their user the permissions" in ended["message"], ended
    assert site.left() == (set(), 0)
    site.service.cancel("UploadPart")
    written = (site.system.settings.all_stores["local"].dir / image_id).stat()
    run_id = ended["flow_run_id"]
    until(lambda: site.system.flow_run(image_id)["state"]["type"] == "FAILED", what="the run's own end")

    site.system.set_state(run_id, "SCHEDULED", "AwaitingRetry")

    until(lambda: site.system.task(image_id)["id"] != ended["id"], what="the task of the Retry")
    assert site.system.ended(image_id)["status"] == "success", site.system.logs()
    assert site.system.image(image_id)["stores"] == ",".join(STORES)
    assert site.service.buckets[site.bucket][image_id][0] == BODY
    now = (site.system.settings.all_stores["local"].dir / image_id).stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_store_that_is_busy_for_a_moment_gets_only_the_missing_parts(site: Site) -> None:
    site.service.history.clear()
    site.service.then("UploadPart", lambda proceed: proceed(), *[error(503, "SlowDown")] * 9)

    image_id = site.ask()

    assert site.system.ended(image_id)["status"] == "success", site.system.logs()
    assert site.service.buckets[site.bucket][image_id][0] == BODY
    assert site.service.history.count("CreateMultipartUpload") == 1
    assert site.service.history.count("UploadPart") == 4 + 9


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_what_is_given_up_in_mid_upload_leaves_nothing(site: Site, how: str) -> None:
    hold = Hold()
    site.service.then("UploadPart", *[hold] * 4)
    image_id = site.ask()
    assert hold.reached.wait(180), site.system.logs()

    if how == "cancel":
        site.system.set_state(site.system.flow_run(image_id)["id"], "CANCELLING", "Cancelling")
    else:
        assert site.system.api("DELETE", f"/v2/images/{image_id}").status_code == 204

    until(lambda: site.left() == (set(), 0), what=f"nothing is left\n{site.system.logs()}")
    hold.opened.set()
    if how == "cancel":
        assert site.system.ended(image_id)["status"] == "failure"
    assert site.left() == (set(), 0)
