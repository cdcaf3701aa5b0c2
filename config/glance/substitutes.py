"""Resolves ``$option`` and ``${section.option}`` in Glance's files.

Source: oslo.config, ``ConfigOpts._substitute``, with two differences: a reference may name any option that a file
sets, even if Glance does not have it, and ``${DEFAULT.option}`` is accepted. Lists and numbers are substituted as
written, not as Python would print them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Final

from config.glance.options import DEFAULT_SECTION, DEFAULTS, canonical_section
from transship.domain.errors import ValueRefused

Key = tuple[str, str]
"""Section and option in Glance's spelling."""

LITERAL_DOLLAR: Final = "write $$ for a literal $"


class _UnknownName(ValueRefused):
    """No file sets the option, and it has no default."""


class _Template(string.Template):
    """Like oslo.config's: ``$name``, ``${name}``, ``${section.name}``; any other ``$`` is kept."""

    idpattern = r"[_a-z][\._a-z0-9]*"


def substituted(texts: Mapping[Key, str], key: Key) -> str:
    """Return the text of an option with all references replaced.

    Args:
        texts: texts of options as written in the files.
        key: of one of them; references without a section are looked up in its section, then in ``[DEFAULT]``.

    Raises:
        ValueRefused: a reference is unknown or circular.
    """
    return _filled(texts, (key,))


def _filled(texts: Mapping[Key, str], way: tuple[Key, ...]) -> str:
    """Return the value of the last option in a chain of references."""
    text = texts.get(way[-1], DEFAULTS.get(way[-1], ""))
    return _Template(text.replace(r"\$", "$$")).safe_substitute(_Values(texts, way))


class _Values(dict[str, str]):
    """The values that the names in an option's text refer to; the option is the last one of a chain."""

    def __init__(self, texts: Mapping[Key, str], way: tuple[Key, ...]) -> None:
        super().__init__()
        self._texts, self._way = texts, way

    def __missing__(self, name: str) -> str:
        # A KeyError would leave the reference unchanged.
        reason = f"refers to ${name}, which no file sets"
        if not self._has_section_of(name):
            raise ValueRefused(reason, LITERAL_DOLLAR)
        unknown = _UnknownName(reason, LITERAL_DOLLAR)
        for key in self._keys(name):
            try:
                return self._value(key)
            except _UnknownName as deeper:
                # As in oslo.config: if an option refers to an unknown one, its namesake in [DEFAULT] is used.
                unknown = deeper
        raise unknown

    def _has_section_of(self, name: str) -> bool:
        """Whether a name has no section, or one that exists: in oslo.config no namesake replaces the others."""
        section, dot, _ = name.partition(".")
        return not dot or any(known == canonical_section(section) for known, _ in (*self._texts, *DEFAULTS))

    def _keys(self, name: str) -> list[Key]:
        section, dot, option = name.partition(".")
        keys = ((canonical_section(section), option),) if dot else ((self._way[-1][0], name), (DEFAULT_SECTION, name))
        return [key for key in dict.fromkeys(keys) if key in self._texts or key in DEFAULTS]

    def _value(self, key: Key) -> str:
        if key in self._way:
            circle = " -> ".join(f"[{section}] {option}" for section, option in (*self._way, key))
            raise ValueRefused(f"refers to itself: {circle}")
        return _filled(self._texts, (*self._way, key))
