from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.system import System, assert_holds
from tests.fakes.web_server import WebServer

pytestmark = pytest.mark.real


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_compressed_qcow2_is_unpacked_and_converted(system: System, source: WebServer, tmp_path: Path) -> None:
    raw, qcow2 = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(os.urandom(1 << 20) + bytes(7 << 20) + os.urandom(1 << 20))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    uri = source.serve("/disk.qcow2.gz", gzip.compress(qcow2.read_bytes()))
    image = system.import_from(uri, disk_format="qcow2")
    assert_holds(system, image, raw.read_bytes())
    assert (image["disk_format"], image["virtual_size"], image["os_distro"]) == ("raw", 9 << 20, "debian")
    assert not [name for name in system.staged() if str(image["id"]) in name]
