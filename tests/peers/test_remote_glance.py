"""An import between a real Keystone and a real Glance, asked for by the unmodified `openstack` command and SDK."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes import disk_images
from tests.fakes.asked_imports import AskedImports
from tests.fakes.openstack_peers import OpenStack
from tests.fakes.terminal import run_at_terminal
from tests.peers.conftest import serve_in_region

pytestmark = [
    pytest.mark.real,
    # openstacksdk warns about its own future whenever it connects.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MIB = 1024 * 1024
PROPERTIES = {"hw_disk_bus": "virtio", "os_distro": "debian", "colour": "blue"}


@pytest.fixture
def region(cloud: OpenStack, imports: AskedImports) -> str:
    """A separate region for each test with our image service; RegionTwo has the real Glance."""
    return serve_in_region(
        cloud,
        imports,
        imports__enabled_methods="web-download,glance-download",
        uri__allowed_ports=f"80,443,{cloud.glance.port}",
        download__range_bytes=str(MIB),
    )


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    raw = disk_images.raw_disk(folder / "disk.raw", 64 * MIB)
    with raw.open("r+b") as file:
        file.seek(8 * MIB)
        file.write(os.urandom(6 * MIB))
    return disk_images.converted(raw, folder / "disk.qcow2", "qcow2")


@pytest.fixture(scope="module")
def golden(cloud: OpenStack, disk: Path) -> Any:
    """An image in the real Glance."""
    images = cloud.connect(region="RegionTwo").image
    # Given a file's name, openstacksdk leaves the file open.
    return images.create_image(
        "golden", data=disk.read_bytes(), disk_format="qcow2", container_format="bare", wait=True, **PROPERTIES
    )


def command(cloud: OpenStack, region: str, home: Path, *arguments: str) -> str:
    openstack = str(Path(sys.executable).with_name("openstack"))
    done = run_at_terminal([openstack, *arguments], {**cloud.openrc, "OS_REGION_NAME": region}, home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_properties_formats_bytes_and_hash_of_a_real_glance_arrive(
    cloud: OpenStack, imports: AskedImports, region: str, golden: Any, disk: Path, tmp_path: Path
) -> None:
    formats = ["--disk-format", "raw", "--container-format", "bare"]
    created = command(cloud, region, tmp_path, "image", "create", *formats, "--format", "json", "golden")
    image_id = json.loads(created)["id"]
    # openstacksdk sends region and image id only if it is given an interface too.
    remote = ["--remote-region", "RegionTwo", "--remote-image", golden.id, "--remote-service-interface", "public"]
    command(cloud, region, tmp_path, "image", "import", "--method", "glance-download", *remote, image_id)
    state = imports.carry(image_id)
    assert state.is_completed(), state.message
    here = cloud.connect(region=region)
    image = here.image.get_image(image_id)
    body = disk.read_bytes()
    assert (image.status, image.disk_format, image.container_format) == ("active", "qcow2", "bare")
    assert (image.size, image.virtual_size) == (len(body), 64 * MIB)
    assert (image.hash_algo, image.hash_value) == ("sha512", hashlib.sha512(body).hexdigest())
    assert image.hash_value == cloud.connect(region="RegionTwo").image.get_image(golden.id).hash_value
    assert (image.hw_disk_bus, image.os_distro, "colour" in image.properties) == ("virtio", "debian", False)
    assert image.owner == here.current_project_id
    assert here.image.download_image(image_id).content == body
    (task,) = here.image.get(f"/images/{image_id}/tasks").json()["tasks"]
    assert (task["status"], task["user_id"]) == ("success", here.current_user_id)


def test_an_image_that_is_not_there_ends_the_task_with_the_reason(
    cloud: OpenStack, imports: AskedImports, region: str
) -> None:
    images = cloud.connect(region=region).image
    image = images.create_image("none", disk_format="raw", container_format="bare", hw_disk_bus="scsi")
    remote = {"remote_region": "RegionTwo", "remote_image_id": str(uuid4()), "remote_service_interface": "public"}
    images.import_image(image, method="glance-download", **remote)
    assert imports.carry(image.id).is_failed()
    image = images.get_image(image.id)
    assert (image.status, image.hw_disk_bus) == ("queued", "scsi")
    (task,) = images.get(f"/images/{image.id}/tasks").json()["tasks"]
    assert (task["status"], "no such image" in task["message"]) == ("failure", True)


def test_a_token_that_the_real_keystone_did_not_issue_is_refused(
    cloud: OpenStack, imports: AskedImports, region: str
) -> None:
    answer = imports.api("GET", "/v2/images", headers={"X-Auth-Token": "gAAAAABnothing"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Keystone uri="{cloud.auth_url}"'
    assert imports.api("GET", "/v2/images", headers={"X-Auth-Token": cloud.connect().auth_token}).status_code == 200
