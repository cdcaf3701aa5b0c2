"""Cancelling real imports in their slow steps: they end soon, and nothing keeps writing.

Times are printed, never asserted; `pytest -s` shows them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.prefect_server import PrefectServer
from tests.fakes.runner import Runner, until
from tests.fakes.system import STANDING_SOURCES, Gate
from tests.fakes.web_server import WebServer
from transship.catalog.engine import Catalog
from transship.host.directories import MARK
from transship.host.processes import descendants, start_time

pytestmark = pytest.mark.real

BODY = bytes(range(256)) * 4096

SLOW_CONVERT = """#!/bin/sh
[ "$1" = convert ] || exec {real} "$@"
touch {home}/converting
sleep 600
"""
"""A qemu-img that hangs in a conversion, with a child process of its own."""


@pytest.fixture(scope="module")
def source() -> Iterator[WebServer]:
    with WebServer() as started:
        yield started


@pytest.fixture(scope="module")
def importer(
    prefect_server: PrefectServer, source: WebServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """A runner that carries the product's own flow, on a catalogue of its own."""
    home = tmp_path_factory.mktemp("importer")
    tool = home / "slow-qemu-img"
    tool.write_text(SLOW_CONVERT.format(real=shutil.which("qemu-img"), home=home))
    tool.chmod(0o755)
    options = {
        "prefect.worker_limit": 1,
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        "staging.free_floor_bytes": 0,
        "imports.plugins": ["image_conversion"],
        "conversion.qemu_img": str(tool),
        **STANDING_SOURCES,
    }
    with Runner(prefect_server, home, options) as started:
        Catalog.open(started.settings).close()
        yield started


def cancel_in_the_middle(importer: Runner, run_id: str) -> dict[str, Any]:
    """Cancel a run; return its last state once all its processes are gone."""
    status = importer.status
    assert status is not None
    below = descendants(next(one.pid for one in status.executors if one.flow_run_id == run_id))
    began = time.monotonic()
    importer.set_state(run_id, "CANCELLING", "Cancelling")
    state = importer.ended(run_id)
    until(lambda: not [pid for pid in below if start_time(pid) is not None], importer.said)
    print(f"cancelled after {time.monotonic() - began:.2f} s")
    return state


def left(importer: Runner) -> list[str]:
    staging, store = importer.settings.staging_dir, importer.settings.all_stores["local"].dir
    found = [path for directory in (staging, store) if directory.exists() for path in directory.iterdir()]
    return sorted(path.name for path in found if not path.name.startswith(".transship"))


def test_a_cancel_in_a_download(importer: Runner, source: WebServer) -> None:
    gate = Gate(BODY)
    run_id = importer.import_by_hand(source.on("/slow.img", gate.behaviour()), "raw")
    assert gate.reached.wait(180), importer.said()
    until(lambda: importer.status and importer.status.carried, importer.said)
    state = cancel_in_the_middle(importer, run_id)
    gate.open()
    assert state["type"] == "CANCELLED", importer.said()
    # What was downloaded stays for a Retry, as a part that nobody writes any more.
    assert not [name for name in left(importer) if not name.endswith(".part")]


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_cancel_in_a_conversion(importer: Runner, source: WebServer, tmp_path: Path) -> None:
    qcow2 = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "4M"], check=True)
    run_id = importer.import_by_hand(source.serve("/disk.qcow2", qcow2.read_bytes()), "qcow2")
    until((importer.home / "converting").exists, importer.said)
    assert cancel_in_the_middle(importer, run_id)["type"] == "CANCELLED", importer.said()


def test_a_cancel_in_a_copy_to_a_store(importer: Runner, source: WebServer) -> None:
    uri = source.serve("/disk.img", BODY)
    run_id = importer.import_by_hand(uri, "raw", "slow_store", directory=str(importer.home))
    until((importer.home / "copying").exists, importer.said)
    state = cancel_in_the_middle(importer, run_id)
    assert state["type"] == "CANCELLED", importer.said()
    store = importer.settings.all_stores["local"].dir
    assert [path.name for path in store.iterdir()] == [MARK], importer.said()
