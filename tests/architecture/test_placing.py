"""Copies are written, taken back and forgotten in one room."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("flows", "tasks", "blocks", "deployments", "transship")

JOURNAL_OF_COPIES = {
    "open_location",
    "copy_written",
    "mark_deleting",
    "forget_location",
    "drop_location",
    "claim_location",
    "release_location",
}
"""What the catalogue notes of a copy around a call of its store's driver."""


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}


def test_nobody_else_notes_that_a_copy_is_written_or_removed() -> None:
    allowed = (ROOT / "transship" / "placing", ROOT / "transship" / "catalog")
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.parent not in allowed]
    assert len(files) > 100
    assert {str(path.relative_to(ROOT)) for path in files if _imports(path) & JOURNAL_OF_COPIES} == set()
