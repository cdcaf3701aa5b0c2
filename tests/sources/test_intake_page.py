"""docs/intake.md shows the actual outcome for every bad address and bad server."""

from __future__ import annotations

import pytest

from tests.sources.intake_rows import PAGE, TABLES, Row, marked, outcome_of

ROWS = [(name, row) for name, rows in TABLES.items() for row in rows]


def lines_of(name: str) -> list[str]:
    return marked(PAGE.read_text(encoding="utf-8"), name)[1].splitlines()[2:]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{row.id} {row.what[:40]}" for _, row in ROWS])
def test_a_row_of_the_page_is_what_happens(name: str, row: Row) -> None:
    (written,) = [line for line in lines_of(name) if line.startswith(row.key)]
    assert row.line(outcome_of(row)) == written


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_no_row_that_is_not_tried(name: str) -> None:
    keys = [row.key for row in TABLES[name]]
    assert len(set(keys)) == len(keys)
    assert [line for line in lines_of(name) if not line.startswith(tuple(keys))] == []


def test_every_kind_of_bad_input_has_a_row() -> None:
    urls = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 27, 28, 29, 30, 31, 32}
    servers = {1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 20, 21, 22}
    assert {row.id for row in TABLES["addresses"]} == {f"U{number}" for number in urls}
    assert {row.id for row in TABLES["servers"]} == {f"H{number}" for number in servers}
