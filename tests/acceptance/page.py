"""Which founding behaviour is shown by which test; ``docs/acceptance.md`` lists it.

Tests in this folder are named ``test_row_NN_<sentence>`` for failure case NN and ``test_case_NN_<sentence>`` for
acceptance case NN: the number leads here, the sentence says what Transship makes of it.
``python -m tests.acceptance.page`` rewrites the page; a test keeps it current.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "acceptance.md"
COMMAND: Final = ".venv/bin/python -m tests.acceptance.page"
NONE_YET: Final = "none yet"

FAILURES: Final[dict[int, str]] = {
    1: "the address is refused when the import is asked for",
    2: "the source cannot be reached, answers an error, redirects to a refused place, or sends too little or too much",
    3: "the source holds the connection and sends nothing",
    4: "glance-download: the other cloud, its image or the right to it is missing, or that image is not active",
    5: "glance-download: the data cannot be fetched, or their size differs",
    6: "glance-direct: what was staged cannot be unpacked",
    7: "web-download: what was downloaded cannot be unpacked",
    8: "glance-direct: inspection or conversion fails",
    9: "web-download, glance-download: inspection or conversion fails",
    10: "a property to be injected is a protected one",
    11: "glance-direct: one of several stores fails, and all must succeed",
    12: "the same after the image was converted",
    13: "web-download: one of several stores fails, and all must succeed",
    14: "copy-image: one of several stores fails, and all must succeed",
    15: "some stores fail, and may",
    16: "glance-direct: every store fails, although each may",
    17: "web-download: every store fails, although each may",
    18: "copy-image: every store fails, although each may",
    19: "copy-image: the copy to read from is gone or unreadable",
    20: "a later store holds other bytes than were written",
    21: "the data are of another format than declared, or not safe to open",
    22: "the image is larger than images may be",
    23: "a store is full or does not let itself be written",
    24: "staged data are too large, or staging or quota is full",
    25: "fewer or more bytes are staged than announced",
    26: "data are staged for an image that has some",
    27: "the quota is exceeded when the import begins",
    28: "the staging directory is misconfigured",
    29: "a store is named twice",
    30: "a plugin is configured that nobody has",
    31: "a second import is asked for while one runs",
    32: "an import is asked for after its predecessor fell silent",
    33: "the image is deleted while it is imported",
    34: "the process is killed in the middle of an import",
    35: "every worker is busy",
    36: "the host that holds the staged data is down",
    37: "glance-download: the token expires on the way",
    38: "the user changes the image while it is copied to a store",
    39: "the image is deactivated while it is copied to a store",
}
"""What goes wrong, by the number of the failure case."""

CASES: Final[dict[int, str]] = {
    1: "discovery names the import methods",
    2: "discovery names the stores, the default and the read-only one",
    3: "discovery of stores without several stores",
    4: "the stores' details are for the service alone",
    5: "a created image's answer names methods and stores",
    6: "the versions need no token",
    7: "an import without a method, with an unknown or a disabled one",
    8: "`all_stores` that is no boolean",
    9: "an import of an image without a format",
    10: "imports from a status that the method does not start from",
    11: "the answer to an accepted import, and its request id",
    12: "imports into another project's image",
    13: "stores that contradict each other, are unknown, reserved, repeated or none",
    14: "the store options without several stores",
    15: "a client sets a reserved property",
    16: "the staging host stays inside",
    17: "data are staged in chunks",
    18: "staged data shorter than announced",
    19: "staging while glance-direct is disabled",
    20: "staging with another content type",
    21: "staged data are imported",
    22: "staging twice",
    23: "staging on one host, import asked for at another",
    24: "a URI beside glance-direct",
    25: "an image at a URL is imported",
    26: "addresses that are refused by default",
    27: "a disallowed host with a dot at its end",
    28: "allow list and deny list of one level",
    29: "a disallowed scheme without an allow list",
    30: "a redirect to a disallowed host",
    31: "a server that closes early",
    32: "ports: given, not given, not in the list",
    33: "a port that is none",
    34: "the same import again after a failure",
    35: "glance-download: disabled, without a region, with a bad id",
    36: "glance-download: which properties and formats come along",
    37: "glance-download: a wrong region or no such image",
    38: "glance-download: which further properties are chosen",
    39: "glance-download: a misspelled section of the configuration",
    40: "glance-download: other bytes than the other cloud's digest says",
    41: "one of two stores is broken, and all must succeed",
    42: "one of two stores is broken, and may be",
    43: "both stores are broken, and may be",
    44: "all stores, one of them read-only",
    45: "when the image becomes active",
    46: "who may copy an image to another store",
    47: "copies to stores that hold the image",
    48: "a copy to all stores",
    49: "a copy to a broken store, and again after its repair",
    50: "the order in which stores are listed",
    51: "injected properties, and the roles that are left out",
    52: "a property is injected that the user may not set",
    53: "a packed qcow2 is unpacked",
    54: "a zip of two files, and an image that is to stay compressed",
    55: "staged data that cannot be unpacked",
    56: "a qcow2 is converted to raw",
    57: "images that refer to other files",
    58: "contents of another format than declared, before a conversion",
    59: "a packed qcow2 becomes raw",
    60: "a plugin that nobody has",
    61: "a second import and a change of the image while one runs",
    62: "a copy that fell silent",
    63: "a process killed while it copies, and started again",
    64: "the image is deleted while it is imported",
    65: "what lies in staging when the service starts",
    66: "quotas when data are staged and when an import is asked for",
    67: "the quota is exceeded inside the import",
    68: "notifications of an import of which one store fails",
    69: "notifications that are switched off",
    70: "how long a finished task is shown",
    71: "secrets in a task's input",
    72: "who may list tasks",
}
"""What is tried, by the number of the acceptance case."""

ALWAYS_LISTED: Final = range(25, 66)
"""Acceptance cases that the page lists also without a test: those of imports; the others are the API's own."""

INTRODUCTION: Final = f"""\
# Acceptance: what must be true, and the test that shows it

The behaviour of interoperable image import, case by case. *Outcome* is the test's own name: what Transship makes of
the case, which is not always what Glance makes of it ([glance-differences.md](glance-differences.md)).

This page is written by `{COMMAND}` from the tests in `tests/acceptance/`.
"""


@dataclass(frozen=True)
class Shown:
    """A test that shows a case.

    Attributes:
        kind: ``row`` for a failure case, ``case`` for an acceptance case.
        sentence: what becomes of it.
    """

    kind: str
    number: int
    sentence: str
    file: str


def shown_cases() -> list[Shown]:
    """Return every numbered test of this folder, in the order of files and lines."""
    return [shown for path in sorted(Path(__file__).parent.glob("test_*.py")) for shown in _shown_in(path)]


def _shown_in(path: Path) -> Iterator[Shown]:
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        found = re.fullmatch(r"test_(row|case)_(\d+)_(\w+)", statement.name)
        if found is not None:
            yield Shown(found[1], int(found[2]), found[3].replace("_", " "), path.name)


def page() -> str:
    """Return the page as it must be."""
    shown = shown_cases()
    cases = {number for number in CASES if number in ALWAYS_LISTED or any(_of(shown, "case", number))}
    return "\n".join(
        [
            INTRODUCTION,
            "## Failure cases\n",
            *_table("what goes wrong", FAILURES, "row", shown),
            "\n## Acceptance cases\n",
            *_table("what is tried", {number: CASES[number] for number in sorted(cases)}, "case", shown),
            "",
        ]
    )


def _table(heading: str, titles: dict[int, str], kind: str, shown: list[Shown]) -> Iterator[str]:
    yield f"| case | {heading} | outcome | test |"
    yield "| --- | --- | --- | --- |"
    for number, title in titles.items():
        tests = list(_of(shown, kind, number))
        outcome = "<br>".join(test.sentence for test in tests)
        files = ", ".join(dict.fromkeys(f"`{test.file}`" for test in tests))
        yield f"| {number} | {title} | {outcome} | {files or NONE_YET} |"


def _of(shown: list[Shown], kind: str, number: int) -> Iterator[Shown]:
    return (test for test in shown if (test.kind, test.number) == (kind, number))


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
