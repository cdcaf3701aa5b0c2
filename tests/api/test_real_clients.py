"""The clients that people use, unmodified, against the API as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha512
from pathlib import Path

import openstack
import pytest

from config.settings import Settings
from tests.fakes.terminal import run_at_terminal
from transship.catalog.engine import Catalog
from transship.catalog.imports import DataFacts, begin_import, finish_import
from transship.catalog.journal import close_location, open_location

pytestmark = pytest.mark.real

BIN = Path(sys.executable).parent
SOURCE = "http://93.184.215.14/disk.qcow2"
DATA = b"bytes of an image " * 1000


class RunningApi:
    """``python -m transship.api`` on a free port, and the catalogue that it serves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "transship.api"],
            env={**os.environ, "TRANSSHIP_HOME": str(home), "TRANSSHIP_API__PORT": str(self.port)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        begun = [line for line in iter(self.process.stderr.readline, "") if _tells_of_start(line)][:1]
        assert begun, "the API ended before it was ready"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode

    def openstack(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": self.url}
        return run_at_terminal([str(BIN / "openstack"), *words], environ, self.home)

    def glance(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {"OS_IMAGE_URL": self.url, "OS_AUTH_TOKEN": "none"}
        return run_at_terminal([str(BIN / "glance"), *words], environ, self.home)

    def carry_out(self, image_id: str, task_id: str) -> None:
        """Do as a worker does with an accepted import."""
        settings, now = Settings(home=self.home), datetime.now(UTC)
        catalog = Catalog.open(settings)
        lease = begin_import(catalog, task_id, f"run-{task_id[:8]}", "test", ttl_s=60, now=now).lease
        stored = settings.all_stores["local"].dir / image_id
        stored.parent.mkdir(exist_ok=True)
        open_location(catalog, lease, "local", f"file://{stored}", now)
        stored.write_bytes(DATA)
        close_location(catalog, lease, "local", len(DATA), "test", now)
        facts = DataFacts(len(DATA), None, None, "sha512", sha512(DATA).hexdigest(), "qcow2", "bare")
        finish_import(catalog, lease, facts, {}, message="done", now=now, time_to_live_h=48)
        catalog.close()


def _tells_of_start(line: str) -> bool:
    return "Uvicorn running" in line


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    api = RunningApi(tmp_path_factory.mktemp("api-home"))
    yield api
    assert api.stop() == 0


def test_the_openstack_command_imports_an_image_without_further_options(running: RunningApi, tmp_path: Path) -> None:
    words = ("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--tag", "new", "deb")
    made = running.openstack(*words, "--property", "os_distro=debian", "-f", "json")
    assert made.returncode == 0, made.stderr
    image_id = json.loads(made.stdout)["id"]
    asked = running.openstack("image", "import", "--method", "web-download", "--uri", SOURCE, "deb")
    assert asked.returncode == 0, asked.stderr

    cloud = openstack.connect(auth_type="none", endpoint=running.url, load_yaml_config=False)
    image = cloud.image.get_image(image_id)
    assert image.status == "importing"
    running.carry_out(image_id, image.properties["os_glance_import_task"])
    shown = json.loads(running.openstack("image", "show", "deb", "-f", "json").stdout)
    assert (shown["status"], shown["properties"]["stores"]) == ("active", "local")

    saved = tmp_path / "saved"
    assert running.openstack("image", "save", "--file", str(saved), "deb").returncode == 0
    assert saved.read_bytes() == DATA
    changed = running.openstack("image", "set", "--name", "deb12", "--property", "os_version=12", "--tag", "t", "deb")
    assert changed.returncode == 0, changed.stderr
    assert running.openstack("image", "unset", "--property", "os_version", "--tag", "new", "deb12").returncode == 0
    after = json.loads(running.openstack("image", "show", "deb12", "-f", "json").stdout)
    assert after["tags"] == ["t"]
    assert "os_version" not in after["properties"]
    listed = json.loads(running.openstack("image", "list", "--tag", "t", "-f", "json").stdout)
    assert [(row["Name"], row["Status"]) for row in listed] == [("deb12", "active")]
    assert running.openstack("image", "delete", "deb12").returncode == 0


def test_the_glance_command_builds_its_model_from_our_schemas(running: RunningApi, tmp_path: Path) -> None:
    formats = ("--disk-format", "qcow2", "--container-format", "bare")
    made = running.glance("image-create", "--name", "by-glance", *formats, "--property", "os_distro=debian")
    assert made.returncode == 0, made.stderr
    image_id = next(line.split("|")[2].strip() for line in made.stdout.splitlines() if line.startswith("| id "))
    assert "os_distro" in running.glance("image-update", "--min-ram", "64", "--property", "a=b", image_id).stdout
    assert "os_distro" not in running.glance("image-update", "--remove-property", "os_distro", image_id).stdout
    assert running.glance("image-tag-update", image_id, "t").returncode == 0
    assert "local" in running.glance("stores-info").stdout
    asked = running.glance("image-import", "--import-method", "web-download", "--uri", SOURCE, image_id)
    assert "importing" in asked.stdout, asked.stderr
    assert "pending" in running.glance("image-tasks", image_id).stdout
    task_id = next(line.split("|")[2].strip() for line in asked.stdout.splitlines() if "os_glance_import_task" in line)
    running.carry_out(image_id, task_id)
    saved = tmp_path / "saved"
    assert running.glance("image-download", "--file", str(saved), image_id).returncode == 0
    assert saved.read_bytes() == DATA
    assert running.glance("image-delete", image_id).returncode == 0


def test_the_glance_command_creates_and_imports_in_one_step(running: RunningApi) -> None:
    formats = ("--disk-format", "qcow2", "--container-format", "bare", "--all-stores", "True")
    words = ("image-create-via-import", "--name", "via", "--import-method", "web-download", "--uri", SOURCE)
    made = running.glance(*words, *formats)
    assert made.returncode == 0, made.stderr
    assert "importing" in made.stdout


def test_openstacksdk_imports_pages_and_cleans_up(running: RunningApi) -> None:
    cloud = openstack.connect(auth_type="none", endpoint=running.url, load_yaml_config=False)
    formats = {"disk_format": "qcow2", "container_format": "bare"}
    images = [cloud.image.create_image(f"sdk-{n}", allow_duplicates=True, **formats) for n in range(3)]
    for image, stores in zip(images, ({}, {"stores": ["local"]}, {"all_stores": True}), strict=True):
        answer = cloud.image.import_image(image, method="web-download", uri=SOURCE, **stores)
        assert answer.status_code == 202, answer.text
    found = {image.name for image in cloud.image.images(limit=1, status="importing")}
    assert {"sdk-0", "sdk-1", "sdk-2"} <= found
    assert [store.id for store in cloud.image.stores()] == ["local"]
    assert cloud.image.get_import_info().import_methods["value"] == ["web-download"]
    for image in images:
        cloud.image.delete_image(image)
    assert cloud.image.find_image("sdk-0") is None
