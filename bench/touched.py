"""Which files of the product a further kind of store, import method or endpoint touches, counted from the code."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.probe import ROOMS

METHODS: Final = ("glance-direct", "web-download", "glance-download", "copy-image")
ROUTES: Final = Path("transship/api/app.py")

Imported = tuple[str, str]
"""A module and what is imported from it."""


def touched(tree: Path) -> dict[str, float]:
    """Return how many files each of the three touches."""
    return {
        "kind": len(files_of_a_kind(tree)),
        "method": len(files_of_a_method(tree)),
        "endpoint": statistics.median(map(len, files_of_endpoints(tree).values())),
    }


def files_of_a_kind(tree: Path) -> set[str]:
    """Return the files that name the file store: what a further kind would touch or bring."""
    return _naming(tree, re.compile(r"FileStore|filesystem_store_"))


def files_of_a_method(tree: Path) -> set[str]:
    """Return the files that name the import method that most files name."""

    def naming(method: str) -> set[str]:
        name = method.replace("-", "_")
        return _naming(tree, re.compile(rf"ImportMethod\.{name.upper()}\b|[\"']{method}[\"']|flows[./]{name}\b"))

    return max(map(naming, METHODS), key=len)


def files_of_endpoints(tree: Path) -> dict[str, set[str]]:
    """Return by operation of the API the files that are its own: route, handler, and what it alone asks of others."""
    routes = ast.parse((tree / ROUTES).read_text())
    handlers = dict(_handlers(routes))
    asked = {name: _asked_of_others(tree / _file_of(module), name) for name, module in handlers.items()}
    found = {}
    for name, module in handlers.items():
        of_others = set().union(*(theirs for other, theirs in asked.items() if other != name))
        alone = {_file_of(source) for source, _ in asked[name] - of_others}
        found[name] = {str(ROUTES), _file_of(module), *(file for file in alone if (tree / file).is_file())}
    return found


def _naming(tree: Path, names: re.Pattern[str]) -> set[str]:
    files = [tree / "prefect.yaml", *(path for room in ROOMS for path in (tree / room).rglob("*.py"))]
    return {str(path.relative_to(tree)) for path in files if names.search(path.read_text())}


def _handlers(routes: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the operations of the table of paths, each with its module."""
    sources = _imports(routes)
    for node in ast.walk(routes):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "_PATHS":
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            yield from ((name, sources[name]) for name in sorted(names & sources.keys()) if name.islower())


def _asked_of_others(file: Path, function: str) -> set[Imported]:
    """Return what a function, and those of its file that it calls, use of other files of the product."""
    module = ast.parse(file.read_text())
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    sources, seen, left = _imports(module), set[str](), [function]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += (
                [each.id for each in ast.walk(defined[name]) if isinstance(each, ast.Name)] if name in defined else []
            )
    return {(sources[name], name) for name in seen & sources.keys()}


def _imports(module: ast.Module) -> Mapping[str, str]:
    return {
        each.name: node.module
        for node in module.body
        if isinstance(node, ast.ImportFrom) and node.module
        for each in node.names
    }


def _file_of(module: str) -> str:
    return f"{module.replace('.', '/')}.py"
