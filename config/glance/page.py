"""Generates the tables of ``docs/glance-configuration.md`` from `config.glance.options`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from config.glance.option import IgnoredOption, MappedOption
from config.glance.options import (
    COMMON_STORE_OPTIONS,
    DEFAULT_SECTION,
    ELSEWHERE,
    IGNORED,
    OPTIONS,
    SECTION_SPELLINGS,
)
from config.policy_pages import BEGIN
from config.settings.stores import KINDS

GLANCE_FILE: Final = Path("docs/glance-configuration.md")


def glance_page(page: str) -> str:
    """Return the page with new tables; the text before them is not changed."""
    return page.partition(BEGIN)[0] + BEGIN + "\n\n" + "\n".join(_tables()) + "\n"


def _tables() -> Iterable[str]:
    yield from ("## Options that map to settings", "", "| Glance | setting | |", "| --- | --- | --- |")
    yield f"| `[{DEFAULT_SECTION}] enabled_backends` | `stores.<store>.type` | id:type, … |"
    yield from (_mapped(option) for option in OPTIONS)
    yield "| `[keystone_authtoken] auth_section` | - | the login is read from the section that it names |"
    yield "| `[glance_store] default_store` | `default_store` | type and id of the one store without enabled_backends |"
    for kind in KINDS.values():
        if kind.glance is None:
            continue
        yield from ("", f"## Stores of type {kind.name}", "")
        yield "In the section of the store's id, else in `[backend_defaults]`;"
        yield "without `enabled_backends` in `[glance_store]`."
        yield from ("", "| Glance | setting | |", "| --- | --- | --- |")
        yield from (_mapped(option) for option in (*kind.glance.options, *COMMON_STORE_OPTIONS))
        yield from (_ignored(option) for option in kind.glance.ignored)
    yield from ("", "## Known options without effect", "", "| Glance | reason |", "| --- | --- |")
    yield from (f"| `[{option.section}] {option.name}` | {option.reason} |" for option in IGNORED)
    yield from (f"| `[{section}] {name}` | {reason} |" for (section, name), reason in ELSEWHERE.items())
    yield from ("", "## Misspelt sections that are accepted", "", "| misspelt | correct |", "| --- | --- |")
    yield from (f"| `[{written}]` | `[{right}]` |" for written, right in SECTION_SPELLINGS.items())


def _mapped(option: MappedOption) -> str:
    return f"| `{_name(option)}` | `{option.setting}` | {option.note} |"


def _ignored(option: IgnoredOption) -> str:
    return f"| `{_name(option)}` | - | {option.reason} |"


def _name(option: MappedOption | IgnoredOption) -> str:
    return option.name if option.section.startswith("<") else f"[{option.section}] {option.name}"
