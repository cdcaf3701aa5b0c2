"""The modules of Debian's python3-rados and python3-rbd in an environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = "rados.cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site-packages of an environment with Python 3.11, and a directory for Debian's modules beside it."""
    (tmp_path / "debian").mkdir()
    site = tmp_path / "environment" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    return site


def link(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "link-ceph", tmp_path / "environment", tmp_path / "debian"], check=True)


def test_modules_for_the_same_python_are_linked(tmp_path: Path, site: Path) -> None:
    link(tmp_path)
    assert os.listdir(site) == []

    for name in (BUILT, BUILT.replace("311", "313"), "rbd.cpython-311-x86_64-linux-gnu.so", "cephfs.cpython-311-x.so"):
        (tmp_path / "debian" / name).touch()
    for _ in range(2):
        link(tmp_path)
        assert sorted(os.listdir(site)) == [BUILT, "rbd.cpython-311-x86_64-linux-gnu.so"]
        assert (site / BUILT).samefile(tmp_path / "debian" / BUILT)


def test_a_link_goes_with_the_package(tmp_path: Path, site: Path) -> None:
    (tmp_path / "debian" / BUILT).touch()
    link(tmp_path)

    (tmp_path / "debian" / BUILT).unlink()
    link(tmp_path)

    assert os.listdir(site) == []
