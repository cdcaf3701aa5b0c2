"""Names of files: none shadows another module, none is meaningless, and documents name existing files."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "tasks", "blocks", "config", "deployments", "transship")
EMPTY_NAMES = frozenset({"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "base_utils"})
MODULES = sorted(chain.from_iterable((ROOT / room).rglob("*.py") for room in ROOMS))
LIBRARIES = frozenset(packages_distributions())
"""Top-level names of all installed distributions, our own among them."""


def names_of(*rooms: str) -> set[str]:
    return {path.stem for path in MODULES if path.relative_to(ROOT).parts[0] in rooms} - {"__init__", "__main__"}


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 50
    assert {"prefect", "sqlalchemy", "requests"} <= LIBRARIES


def test_no_flow_is_named_like_a_room() -> None:
    inner = {path.name for path in (ROOT / "transship").iterdir() if path.is_dir()}
    assert not names_of("flows") & (set(ROOMS) | inner)


def test_no_flow_is_named_like_a_library() -> None:
    """Loading a flow from its file puts the file's directory first on the path."""
    assert not names_of("flows") & (LIBRARIES | sys.stdlib_module_names)


def test_no_module_is_named_like_the_library_that_it_wraps() -> None:
    wrapping = [
        path.relative_to(ROOT)
        for path in MODULES
        if path.stem in LIBRARIES - sys.stdlib_module_names
        and re.search(rf"^(?:import|from) {re.escape(path.stem)}\b", path.read_text(), re.MULTILINE)
    ]
    assert wrapping == []


@pytest.mark.parametrize("folder", [*ROOMS, "tests", "bench", "scripts"])
def test_every_file_is_named_for_what_it_holds(folder: str) -> None:
    empty = [path for path in (ROOT / folder).rglob("*") if path.stem.lower() in EMPTY_NAMES]
    assert empty == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in MODULES if path.read_text().strip() and not path.read_text().startswith('"""')]
    assert [path.relative_to(ROOT) for path in silent if "migrations" not in path.parts] == []


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
WRITTEN = sorted(set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)(?::\w+(?:\.\w+)?)?`", ARCHITECTURE)))
"""Paths in the document; those of `transship/` may be written from there."""


@pytest.mark.parametrize("path", WRITTEN)
def test_the_architecture_names_files_that_exist(path: str) -> None:
    assert any((root / path).exists() for root in (ROOT, ROOT / "transship")), f"{path} does not exist"


def test_the_architecture_names_the_whole_path_of_an_import() -> None:
    flow = {f"tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py")}
    beside = {
        f"tasks/{name}.py"
        for name in ("__init__", "retrying", "sources", "stores", "staged_files", "sweep", "verify_copies")
    }
    assert flow - beside <= set(WRITTEN)


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", ARCHITECTURE))), ids="::".join)
def test_the_architecture_names_functions_that_exist(reference: tuple[str, str]) -> None:
    path, name = reference
    found = next(root / path for root in (ROOT, ROOT / "transship") if (root / path).exists())
    text = found.read_text()
    for part in name.split("."):
        assert re.search(rf"^\s*(?:async )?(?:def|class) {part}\b", text, re.MULTILINE), f"{path} has no {part}"
