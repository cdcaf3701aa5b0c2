"""The Containerfile: what it takes from the checkout."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from tests.conftest import REPOSITORY

CONTAINER = REPOSITORY / "deployments" / "container"
SECRETS = "deployments/container/.env"
"""Where the compose file reads passwords and keys."""


def copied(checkout: Path, target: Path) -> None:
    """Do with ``checkout`` what the first stage's COPY lines do with the build context."""
    for line in (CONTAINER / "Containerfile").read_text().splitlines():
        if not line.startswith("COPY ") or "--from=" in line:
            continue
        *patterns, place = line.split()[1:]
        sources = [source for pattern in patterns for source in checkout.glob(pattern)]
        assert sources, line
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, target / place, dirs_exist_ok=True)
            else:
                (target / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / place)


def test_image_holds_all_packages_and_no_secret_of_the_compose_file(tmp_path: Path) -> None:
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    checkout, context = tmp_path / "checkout", tmp_path / "context"
    names = [*wheel["packages"], *wheel["force-include"], "pyproject.toml", "uv.lock", "README.md", "LICENSE", "NOTICE"]
    for name in names:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, checkout / name)
        else:
            shutil.copy(source, checkout / name)
    (checkout / SECRETS).write_text("POSTGRES_PASSWORD=secret\n")
    copied(checkout, context)
    modules = {
        file.relative_to(checkout) for package in wheel["packages"] for file in (checkout / package).rglob("*.py")
    }
    assert all((context / file).is_file() for file in modules)
    assert not list(context.rglob(".env"))
    assert f"/{SECRETS}" in (REPOSITORY / ".gitignore").read_text().splitlines()
