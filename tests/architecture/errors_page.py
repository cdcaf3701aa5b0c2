"""``docs/errors.md``, made from the error classes and the table of HTTP statuses.

``python -m tests.architecture.errors_page`` rewrites the page; a test keeps it current.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from transship.api.errors import status_of
from transship.domain import errors
from transship.domain.errors import TransferFailed, TransshipError

PAGE: Final = Path(__file__).parents[2] / "docs" / "errors.md"
COMMAND: Final = ".venv/bin/python -m tests.architecture.errors_page"

INTRODUCTION: Final = f"""# Errors

<!-- Written by `{COMMAND}` from transship/domain/errors/ and transship/api/errors.py; do not edit. -->

All errors that Transship raises on purpose. A message is the text, followed by the remedy if there is one. Users read
it in the API's answer, on the import task, on the image's failed stores and in the state of the flow run.

* `{{…}}` stands for a value of the error.
* *HTTP* is the status if an API request ends with the error. Errors without one end imports, commands or processes; an
  API request that did end with one would be answered 500.
* *Retried*: the step is tried again (section `retries` of the [settings](settings.md)) before the import fails.
"""


SECTIONS: Final[Mapping[str, str]] = {
    "refusals": "Requests that the caller has to change",
    "sources": "Sources",
    "staged": "Staging, archives, formats and plugins",
    "stores": "Stores",
    "transfers": "Imports ended from outside",
    "site": "What the service depends on",
    "operating": "Starting, stopping and commands",
    "base": "Settings and leases",
}
"""Title of the section of each module of `transship.domain.errors`, in the order of the page."""


def concrete() -> tuple[type[TransshipError], ...]:
    """Return the classes that are raised, in the order of the page."""
    return tuple(kind for module in SECTIONS for kind in _raised(module))


def _raised(module: str) -> Iterator[type[TransshipError]]:
    name = f"{errors.__name__}.{module}"
    for each in vars(importlib.import_module(name)).values():
        if isinstance(each, type) and issubclass(each, TransshipError) and each.__module__ == name and each.BRIEF:
            yield each


def page() -> str:
    """Return the text of ``docs/errors.md``."""
    lines = [INTRODUCTION]
    for module, title in SECTIONS.items():
        lines += [f"## {title}", "", "| Error | Text | Remedy | HTTP | Retried |", "| --- | --- | --- | --- | --- |"]
        lines += [*map(_row, _raised(module)), ""]
    return "\n".join(lines)


def _row(kind: type[TransshipError]) -> str:
    meaning = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    status = status_of(kind)
    retried = "yes" if issubclass(kind, TransferFailed) and kind.retryable else ""
    cells = (
        f"`{kind.__name__}`<br>{meaning}",
        _words(kind.BRIEF),
        _remedy(kind),
        f"{status:d}" if status else "",
        retried,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _remedy(kind: type[TransshipError]) -> str:
    if kind.remedy is TransshipError.remedy:
        return _words(kind.REMEDY)
    # A field of the class, whose default stands there, or a property of its own.
    return _words(kind.remedy) if isinstance(kind.remedy, str) and kind.remedy else "depends on the cause"


def _words(template: str) -> str:
    shown = re.sub(r"{(\w+)[^}]*}", r"{\1}", template)
    return f"`{shown}`" if shown else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
