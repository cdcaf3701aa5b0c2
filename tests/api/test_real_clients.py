"""Real, unmodified clients against the API in a separate process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha512
from pathlib import Path
from typing import Any

import httpx
import openstack
import pytest

from tests.fakes.databases import DATABASES
from tests.fakes.images import prepare_stores, settings_in
from tests.fakes.ports import free_port
from tests.fakes.terminal import run_at_terminal
from transship.catalog.copies import DataFacts, copy_written
from transship.catalog.endings import finish_import
from transship.catalog.engine import Catalog
from transship.catalog.imports import begin_import
from transship.catalog.journal import open_location

pytestmark = [
    pytest.mark.real,
    # The SDK warns of its own future at each connection and each object.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

BIN = Path(sys.executable).parent
SOURCE = "http://93.184.215.14/disk.qcow2"
DATA = b"bytes of an image " * 1000


class RunningApi:
    """``python -m transship.api`` on a free port, and the catalogue that it serves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = settings_in(home)
        with closing(Catalog.open(settings)) as catalog:
            prepare_stores(settings, catalog)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "transship.api"],
            env={
                **os.environ,
                **DATABASES.environment(home),
                "TRANSSHIP_HOME": str(home),
                "TRANSSHIP_API__PORT": str(self.port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._started.wait(300), "the API did not start"

    def _read(self) -> None:
        """Read the process's log, so it does not block on a full pipe."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "Uvicorn running" in line:
                self._started.set()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=120)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def openstack(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": self.url}
        return run_at_terminal([str(BIN / "openstack"), *words], environ, self.home)

    def glance(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {"OS_IMAGE_URL": self.url, "OS_AUTH_TOKEN": "none"}
        return run_at_terminal([str(BIN / "glance"), *words], environ, self.home)

    def sdk(self) -> Any:
        # The SDK's own annotation offers a proxy of the Images API v1 too, which shares no method with it.
        return openstack.connect(auth_type="none", endpoint=self.url, load_yaml_config=False).image

    def carry_out(self, image_id: str, task_id: str) -> None:
        """Act as a worker for an accepted import."""
        settings, now = settings_in(self.home), datetime.now(UTC)
        catalog = Catalog.open(settings)
        lease = begin_import(catalog, task_id, f"run-{task_id[:8]}", "test", ttl_s=3600.0, now=now).lease
        stored = settings.all_stores["local"].dir / image_id
        stored.parent.mkdir(exist_ok=True)
        open_location(catalog, lease, "local", f"file://{stored}", now)
        stored.write_bytes(DATA)
        copy_written(catalog, lease, "local", len(DATA), "test", now)
        facts = DataFacts(len(DATA), None, None, "sha512", sha512(DATA).hexdigest(), "qcow2", "bare")
        finish_import(catalog, lease, facts, {}, message="done", now=now, time_to_live_h=48)
        catalog.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    api = RunningApi(tmp_path_factory.mktemp("api-home"))
    yield api
    assert api.stop() == 0


def test_a_client_on_this_host_is_not_taken_for_a_proxy(running: RunningApi) -> None:
    sent = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "elsewhere.example", "Forwarded": "proto=https"}
    listed = httpx.get(f"{running.url}/versions", headers=sent, trust_env=False).json()["versions"]
    assert listed[0]["links"][0]["href"] == f"{running.url}/v2/"


def test_the_openstack_command_imports_an_image_without_further_options(running: RunningApi, tmp_path: Path) -> None:
    words = ("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--tag", "new", "deb")
    made = running.openstack(*words, "--property", "os_distro=debian", "-f", "json")
    assert made.returncode == 0, made.stderr
    image_id = json.loads(made.stdout)["id"]
    asked = running.openstack("image", "import", "--method", "web-download", "--uri", SOURCE, "deb")
    assert asked.returncode == 0, asked.stderr

    image = running.sdk().get_image(image_id)
    assert image.status == "importing"
    running.carry_out(image_id, image.properties["os_glance_import_task"])
    shown = json.loads(running.openstack("image", "show", "deb", "-f", "json").stdout)
    assert (shown["status"], shown["properties"]["stores"]) == ("active", "local")
    tasks = json.loads(running.openstack("image", "task", "list", "--status", "success", "-f", "json").stdout)
    task_id = image.properties["os_glance_import_task"]
    assert (task_id, "api_image_import") in [(task["ID"], task["Type"]) for task in tasks]
    task = json.loads(running.openstack("image", "task", "show", task_id, "-f", "json").stdout)
    assert (task["status"], task["result"], task["message"]) == ("success", {"image_id": image_id}, "done")

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


def staged(running: RunningApi, image_id: str) -> bytes:
    """Return what waits on staging for an image's import."""
    staging = settings_in(running.home).staging_dir
    [path] = [path for path in staging.iterdir() if path.name.startswith(image_id)]
    return path.read_bytes()


@pytest.fixture
def data_file(tmp_path: Path) -> str:
    path = tmp_path / "disk.img"
    path.write_bytes(DATA)
    return str(path)


def test_the_glance_command_uploads_and_imports_in_one_step(running: RunningApi, data_file: str) -> None:
    formats = ("--disk-format", "raw", "--container-format", "bare")
    words = ("image-create-via-import", "--name", "up", "--import-method", "glance-direct", "--file", data_file)
    made = running.glance(*words, *formats)
    assert made.returncode == 0, made.stderr
    image_id = next(line.split("|")[2].strip() for line in made.stdout.splitlines() if line.startswith("| id "))
    image = running.sdk().get_image(image_id)
    assert (image.status, staged(running, image_id)) == ("importing", DATA)
    running.carry_out(image_id, image.properties["os_glance_import_task"])
    assert running.sdk().get_image(image_id).status == "active"


def test_the_glance_command_stages_and_uploads(running: RunningApi, data_file: str) -> None:
    formats = ("--disk-format", "raw", "--container-format", "bare")
    sdk = running.sdk()
    for command, status in (("image-stage", "uploading"), ("image-upload", "active")):
        made = running.glance("image-create", "--name", command, *formats)
        image_id = next(line.split("|")[2].strip() for line in made.stdout.splitlines() if line.startswith("| id "))
        done = running.glance(command, "--file", data_file, image_id)
        assert done.returncode == 0, done.stderr
        image = sdk.get_image(image_id)
        assert (image.status, image.size) == (status, len(DATA))


def test_the_openstack_command_uploads_with_and_without_import(running: RunningApi, data_file: str) -> None:
    words = ("image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", data_file)
    sdk = running.sdk()
    plain = running.openstack(*words, "plain", "-f", "json")
    assert plain.returncode == 0, plain.stderr
    image = sdk.get_image(json.loads(plain.stdout)["id"])
    assert (image.status, image.hash_value) == ("active", sha512(DATA).hexdigest())
    imported = running.openstack(*words, "--import", "imported", "-f", "json")
    assert imported.returncode == 0, imported.stderr
    image = sdk.find_image("imported")
    assert (image.status, staged(running, image.id)) == ("importing", DATA)


# openstacksdk opens the file and never closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_openstacksdk_uploads_with_and_without_import(running: RunningApi, data_file: str) -> None:
    sdk = running.sdk()
    formats = {"disk_format": "raw", "container_format": "bare", "allow_duplicates": True}
    plain = sdk.create_image("sdk-plain", filename=data_file, **formats)
    assert sdk.get_image(plain.id).status == "active"
    imported = sdk.create_image("sdk-imported", filename=data_file, use_import=True, **formats)
    image = sdk.get_image(imported.id)
    assert (image.status, staged(running, imported.id)) == ("importing", DATA)
    for made in (plain, imported):
        sdk.delete_image(made)
    assert not [path for path in settings_in(running.home).staging_dir.iterdir() if imported.id in path.name]


def test_openstacksdk_imports_pages_and_cleans_up(running: RunningApi) -> None:
    sdk = running.sdk()
    images = [
        sdk.create_image(f"sdk-{n}", disk_format="qcow2", container_format="bare", allow_duplicates=True)
        for n in range(3)
    ]
    choices: list[dict[str, Any]] = [{}, {"stores": ["local"]}, {"all_stores": True}]
    for image, stores in zip(images, choices, strict=True):
        answer = sdk.import_image(image, method="web-download", uri=SOURCE, **stores)
        assert answer.status_code == 202, answer.text
    found = {image.name for image in sdk.images(limit=1, status="importing")}
    assert {"sdk-0", "sdk-1", "sdk-2"} <= found
    assert [store.id for store in sdk.stores()] == ["local"]
    assert sdk.get_import_info().import_methods["value"] == ["glance-direct", "web-download", "copy-image"]
    for image in images:
        sdk.delete_image(image)
    assert sdk.find_image("sdk-0") is None
