"""Uploads through the whole product: unmodified clients, and an API that dies in the middle."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path

import pytest
import requests

from tests.fakes.system import System, assert_holds, openstack_command, until

pytestmark = pytest.mark.real

BODY = os.urandom(3 << 20)


def test_the_openstack_command_uploads_and_imports_in_one_step(system: System, tmp_path: Path) -> None:
    path = tmp_path / "mine.raw"
    path.write_bytes(BODY)
    words = ("image", "create", "--disk-format", "raw", "--container-format", "bare", "--import", "--file", str(path))
    image_id = openstack_command(system, *words, "-f", "value", "-c", "id", "uploaded")
    assert system.ended(image_id)["status"] == "success"
    assert_holds(system, system.image(image_id), BODY)
    run = system.flow_run(image_id)
    assert run["work_queue_name"] == f"host-{system.settings.host_name}"


@pytest.mark.faults
def test_an_upload_whose_api_was_killed_is_staged_again(system: System) -> None:
    image_id = system.create(name="cut off")
    half_sent = threading.Event()

    def half() -> Iterator[bytes]:
        yield BODY[: 2 << 20]
        half_sent.set()
        until(lambda: api_pid not in system.pids().values(), 180.0, "the API's death")

    api_pid = system.pids()["api"]
    octets = {"Content-Type": "application/octet-stream"}

    def upload() -> None:
        with pytest.raises(requests.RequestException):
            system.api("PUT", f"/v2/images/{image_id}/stage", data=half(), headers=octets)

    client = threading.Thread(target=upload)
    client.start()
    assert half_sent.wait(180)
    until(lambda: [name for name in system.staged() if name.startswith(image_id)], 180.0, "the first bytes")
    system.kill("api")
    client.join()
    until(lambda: healthy(system), 180.0, "the API's return")
    # Before the dead upload's lease has expired nobody imports what it left.
    asked = {"method": {"name": "glance-direct"}}
    assert system.api("POST", f"/v2/images/{image_id}/import", json=asked).status_code == 409
    system.expire_lease(image_id)
    until(lambda: system.image(image_id)["status"] == "queued", 180.0, "the image is freed")
    staged = system.api("PUT", f"/v2/images/{image_id}/stage", data=BODY, headers=octets)
    assert staged.status_code == 204, staged.text
    assert system.api("POST", f"/v2/images/{image_id}/import", json=asked).status_code == 202
    assert system.ended(image_id)["status"] == "success"
    assert system.image(image_id)["os_hash_value"] == sha512(BODY).hexdigest()
    until(lambda: not [name for name in system.staged() if name.startswith(image_id)], 180.0, "an empty staging")


def healthy(system: System) -> bool:
    try:
        return system.api("GET", "/healthcheck").ok
    except requests.RequestException:
        return False
