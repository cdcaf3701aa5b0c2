from __future__ import annotations

import pytest

from transship.domain.errors import ConfigurationRefused, SeveralRefused

TO_THE_OPERATOR = "cannot be used; the operator finds the reason in the log"


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (ConfigurationRefused("/etc/a.toml", "imports.plugins", "no such plugin"), "imports.plugins: no such plugin"),
        (ConfigurationRefused("settings", "a.b", "/srv/x serves another"), f"a.b {TO_THE_OPERATOR}"),
        (ConfigurationRefused("settings", "a.b", "found '~/x'"), f"a.b {TO_THE_OPERATOR}"),
        (ConfigurationRefused("settings", "a.b", "is text", "write a number"), "a.b: is text; write a number"),
        (ConfigurationRefused("settings", "a.b", "is text", "write /srv/x"), f"a.b {TO_THE_OPERATOR}"),
        (SeveralRefused("/etc/a.toml", "a.b", "is text", "", ("/etc/b.toml: c: is none",)), "a.b: is text"),
    ],
    ids=["source", "absolute", "home", "remedy", "path in the remedy", "several"],
)
def test_users_read_of_a_setting_that_cannot_be_used_and_of_no_path(refused: ConfigurationRefused, told: str) -> None:
    assert refused.for_users == told
