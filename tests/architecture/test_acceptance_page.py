"""docs/acceptance.md says which test shows which founding behaviour."""

from __future__ import annotations

import ast

from tests.acceptance.page import CASES, COMMAND, FAILURES, PAGE, ROOT, page, shown_cases


def test_the_acceptance_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: {COMMAND}"


def test_every_acceptance_test_has_a_number_that_exists() -> None:
    unknown = [test for test in shown_cases() if test.number not in (FAILURES if test.kind == "row" else CASES)]
    assert unknown == []


def test_every_numbered_test_of_the_acceptance_folder_is_listed() -> None:
    written = [
        statement.name
        for path in (ROOT / "tests" / "acceptance").glob("test_*.py")
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        and statement.name.startswith(("test_row", "test_case"))
    ]
    assert len(written) == len(shown_cases()), "name the tests test_row_NN_<sentence> or test_case_NN_<sentence>"
