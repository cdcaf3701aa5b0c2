"""The table of rules in docs/stores.md names the tests of each rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

RULES = Path(__file__).parents[2] / "docs" / "stores.md"
SUITE = "test_store_contract.py"
"""Tests every store; rules that it does not test are tested for single ones."""


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the rules that tests of a file are marked with, and the tests' names."""
    tree = ast.parse(path.read_text())
    whole = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for mark in [*map(ast.unparse, node.decorator_list), *whole]:
                yield from ((rule, node.name) for rule in re.findall(r"pytest\.mark\.spec\('(ST-\d{3})'\)", mark))


def test_the_document_names_the_tests_of_every_rule() -> None:
    rows = re.findall(r"^\| (ST-\d{3}) \|.* \| ([^|]*) \|$", RULES.read_text(), re.MULTILINE)
    written = {rule: set(re.findall(r"`(test_\w+)`", tests)) for rule, tests in rows}
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*store*.py")):
        for rule, test in marked(path):
            found.setdefault(rule, {}).setdefault(path.name, set()).add(test)
    assert len(rows) == len(written)
    assert found.keys() == written.keys()
    for rule, by_file in found.items():
        of_all = by_file.get(SUITE)
        if of_all:
            assert written[rule] == of_all, rule
        else:
            assert set() < written[rule] <= set[str]().union(*by_file.values()), rule
