"""A real Debian disk: 4 GiB for the guest, qcow2, packed; unpacked and converted on its way into the store."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.debian_disk import VIRTUAL_BYTES, DebianDisk, debian_disk
from tests.fakes.system import System
from tests.fakes.web_server import WebServer

pytestmark = pytest.mark.real

GIB = 1 << 30
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> DebianDisk:
    return debian_disk(tmp_path_factory)


@pytest.fixture(scope="module")
def imported(system: System, source: WebServer, disk: DebianDisk) -> Mapping[str, object]:
    """The packed disk after its import, as the API shows it."""
    uri = source.serve("/debian.qcow2.gz", disk.packed.read_bytes())
    image_id = system.create(name="debian", disk_format="qcow2")
    asked = system.ask(image_id, uri)
    assert asked.status_code == 202, asked.text
    task = system.ended(image_id, PATIENCE_S)
    assert task["status"] == "success", task
    return system.image(image_id)


def stored_file(system: System, image_id: object) -> Path:
    path: Path = system.settings.all_stores["local"].dir / str(image_id)
    return path


def sha512(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha512").hexdigest()


def assert_nothing_else_lies_about(system: System, image_id: object) -> None:
    assert [name for name in system.stored() if str(image_id) in name] == [image_id]
    assert [name for name in system.staged() if str(image_id) in name] == []


def test_a_packed_debian_disk_becomes_active_as_raw(system: System, imported: Mapping[str, object]) -> None:
    assert (imported["status"], imported["disk_format"], imported["stores"]) == ("active", "raw", "local")
    assert (imported["virtual_size"], imported["size"]) == (VIRTUAL_BYTES, VIRTUAL_BYTES)
    assert_nothing_else_lies_about(system, imported["id"])


def test_the_stored_disk_is_what_qemu_img_makes_by_hand(
    system: System, imported: Mapping[str, object], disk: DebianDisk
) -> None:
    stored = stored_file(system, imported["id"])
    assert imported["os_hash_algo"] == "sha512"
    assert imported["os_hash_value"] == disk.by_hand == sha512(stored)


def test_the_stored_disk_takes_no_room_for_its_zeros(system: System, imported: Mapping[str, object]) -> None:
    found = stored_file(system, imported["id"]).stat()
    assert found.st_size == VIRTUAL_BYTES
    assert found.st_blocks * 512 < GIB


def test_a_debian_stands_on_the_stored_disk(system: System, imported: Mapping[str, object]) -> None:
    stored = stored_file(system, imported["id"])
    table = command_output("sfdisk", "--dump", stored)
    found = re.search(r"start= *(\d+),", table)
    assert table.startswith("label: gpt")
    assert found, table
    file_system = f"{stored}?offset={int(found[1]) * 512}"
    # -n: opened for reading alone, and every fault found makes the command fail.
    command_output("e2fsck", "-fn", file_system)
    assert command_output("debugfs", "-R", "cat /etc/debian_version", file_system).startswith("12.")


def command_output(*command: str | Path) -> str:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_import_command_brings_the_same_disk_unpacked(system: System, disk: DebianDisk) -> None:
    done = system.command("import", str(disk.qcow2), timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    assert (shown["status"], shown["sha512"]) == ("active", disk.by_hand)
    image_id = shown["image"]
    assert sha512(stored_file(system, image_id)) == disk.by_hand
    assert_nothing_else_lies_about(system, image_id)
