"""The systemd units: valid, and in step with the settings that they rely on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from config.settings import Settings
from tests.conftest import REPOSITORY

UNITS = sorted((REPOSITORY / "deployments" / "systemd").glob("*.service"))
COMMAND = "/usr/local/bin/transship"
DIFFERENT = {"Type", "NotifyAccess", "TimeoutStartSec", "ExecStart", "ExecReload", "TimeoutStopSec"}
"""Options in which the two roles differ."""


def section(unit: Path, name: str = "Service") -> dict[str, str]:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # names of options keep their case
    parser.read_string(unit.read_text())
    return dict(parser[name])


def test_each_role_has_a_unit() -> None:
    commands = {section(unit)["ExecStart"] for unit in UNITS}
    assert commands == {f"{COMMAND} up", f"{COMMAND} worker"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    installed = Path(sys.executable).with_name("transship")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(COMMAND, str(installed)))
    found = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_imports_have_their_time_before_systemd_kills(unit: Path) -> None:
    service, supervisor = section(unit), Settings().supervisor
    kills = 3 if service["ExecStart"].endswith("worker") else 10
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > supervisor.drain_s + kills * supervisor.kill_after_s


def test_both_units_confine_their_processes_alike() -> None:
    first, second = ({name: value for name, value in section(unit).items() if name not in DIFFERENT} for unit in UNITS)
    assert first == second
    assert first["ProtectSystem"] == "strict"
