"""The table of import methods: which files name a method, and what each method has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from transship.domain.methods import METHODS, ImportMethod

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "tasks", "blocks", "config", "deployments", "transship")

FLOW_FILES = {f"flows/{method.replace('-', '_')}.py" for method in ImportMethod}
NAME_A_METHOD = {
    "transship/domain/methods.py",
    *FLOW_FILES,
    # The command line is a client of the API: it says which method it wants.
    "transship/commands/import_image.py",
    "transship/commands/rerun.py",
}
NAME_ONE_BY_WHAT_IT_DOES = {
    "transship/domain/methods.py",
    # Offers PUT …/stage where what it takes can be imported.
    "transship/api/uploads.py",
    # Asks in SQL.
    "transship/catalog/unfinished_imports.py",
    # A Retry of an import whose image has its data is a copy.
    "transship/catalog/imports.py",
    # A damaged copy is replaced by a copy.
    "transship/placing/repair.py",
}


def _files() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def _names_a_method(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "ImportMethod" and node.attr.isupper()
    return isinstance(node, ast.Constant) and node.value in set(ImportMethod)


def test_only_the_table_and_the_flows_name_methods() -> None:
    named = {file for file, tree in _files() if any(map(_names_a_method, ast.walk(tree)))}
    assert named == NAME_A_METHOD


def test_few_places_look_for_the_method_that_does_something() -> None:
    names = {"UPLOAD_METHOD", "COPY_METHOD"}
    users = {
        file
        for file, tree in _files()
        if any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(tree))
    }
    assert users == NAME_ONE_BY_WHAT_IT_DOES


def test_every_method_has_a_row() -> None:
    assert list(METHODS) == list(ImportMethod)


@pytest.mark.parametrize("method", ImportMethod)
def test_every_method_has_its_flow_and_its_deployment(method: ImportMethod) -> None:
    name = method.replace("-", "_")
    assert f'import_flow("{method}",' in (ROOT / "flows" / f"{name}.py").read_text()
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert f"flows.{name}.{name}" in [deployment["entrypoint"] for deployment in deployments]
