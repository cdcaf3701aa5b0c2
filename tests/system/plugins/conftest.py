"""A system that decompresses and converts images. A test can make its plugins crash and its qemu-img slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.system import System
from tests.fakes.web_server import WebServer

SLOWED: Final = """#!/bin/sh
# The first conversion after each `touch slow` takes some ten minutes; it is the real qemu-img that does.
if [ "$1" = convert ] && mv {home}/slow {home}/slowed 2>/dev/null; then
    shift
    exec {real} convert -r 16K "$@"
fi
exec {real} "$@"
"""

CRASHING_PLUGIN: Final = '''
"""A plugin with a fault in a C library, which shows the first time that it meets an image."""

import ctypes
from dataclasses import replace
from pathlib import Path

from transship.plugins.base import PluginOutcome
from transship.plugins.conversion import PLUGIN as CONVERSION


class Crashing:
    name, label = "crashing", "crash"

    def check(self, settings):
        pass

    def run(self, work):
        met = Path(work.settings.home) / f"crashed-{work.image.id}"
        if not (work.image.name or "").startswith("segfault") or met.exists():
            return PluginOutcome(summary="nothing to do")
        met.touch()
        if work.image.disk_format == "qcow2":
            return CONVERSION.run(replace(work, progress=lambda *_: ctypes.string_at(0)))
        ctypes.string_at(0)


PLUGIN = Crashing()
'''


def install_crashing_plugin(site: Path) -> None:
    """Put a distribution with the plugin into a directory that is to stand in PYTHONPATH."""
    facts = site / "crashing_plugin-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "crashing_plugin.py").write_text(CRASHING_PLUGIN)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing_plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[transship.import_plugins]\ncrashing = crashing_plugin:PLUGIN\n")


@pytest.fixture(scope="package")
def system(source: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home, tools = tmp_path_factory.mktemp("plugins"), tmp_path_factory.mktemp("tools")
    install_crashing_plugin(tools / "site")
    qemu_img = tools / "slowed-qemu-img"
    qemu_img.write_text(SLOWED.format(home=home, real=shutil.which("qemu-img")))
    qemu_img.chmod(0o755)
    options = {
        "uri.allowed_hosts": ["127.0.0.1"],
        "uri.allowed_ports": [source.port],
        # What goes on, goes on because somebody noticed, not because time was up.
        "lease.ttl_s": 600.0,
        "lease.crash_retries": 9,
        "imports.plugins": ["crashing", "inject_image_metadata", "image_decompression", "image_conversion"],
        "inject.properties": {"os_distro": "debian"},
        "inject.ignore_user_roles": ["nobody"],
        "conversion.qemu_img": str(qemu_img),
    }
    running = System(home, options)
    running.environment["PYTHONPATH"] = str(tools / "site")
    with running:
        yield running
        shutil.rmtree(running.settings.all_stores["local"].dir, ignore_errors=True)
