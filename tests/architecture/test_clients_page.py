"""docs/clients.md lists the commands and calls that are run, with their results."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fakes.client_commands import GLANCE, OPENSTACK, SDK

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def test_the_page_lists_what_is_run() -> None:
    written = re.findall(r"^\| `([^`]+)` \| (works|fails) \|", PAGE.read_text(), re.MULTILINE)
    commands = [(row.command, "works" if row.works else "fails") for row in (*GLANCE, *OPENSTACK)]
    assert written == [*commands, *((call, "works") for call in SDK)]
