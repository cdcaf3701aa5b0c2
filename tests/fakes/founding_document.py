"""What the founding document prints, cut out of its text."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Final

DOCUMENT: Final = Path(__file__).parents[1] / "data" / "interoperable-image-import.rst"


def policies_with(rule: str) -> str:
    """Return the first block of policies that has a rule, as it is printed but for the indentation of the page."""
    return _block(rf'^ *"{rule}": ')


def protections_of(name: str) -> str:
    """Return the first block of property protections with a section, as it is printed but for the indentation."""
    return _block(rf"^ *\[{name}\]\n(?: +\w+ = .*\n){{4}}")


def _block(expression: str) -> str:
    blocks = re.findall(r"^(?: +\S.*\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return dedent(next(block for block in blocks if re.search(expression, block, re.MULTILINE)))
