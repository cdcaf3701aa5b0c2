"""What ``$option`` and ``${section.option}`` stand for in the files of a Glance.

Source: oslo.config, ``ConfigOpts._substitute``. Two things differ: an option that a file sets can be named although
Glance has none of that name, and ``${DEFAULT.option}`` is understood. A list or a number takes the place of its name
as it is written, not as Python would print it.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

from config.glance.options import DEFAULT_SECTION, DEFAULTS, canonical_section

Key = tuple[str, str]
"""Section and option, as Glance names them."""


class NoSubstitute(ValueError):
    """A text names an option that has no value; says which."""


class UnknownName(NoSubstitute):
    """No file sets the option, and it has no default."""


class _Template(string.Template):
    """As oslo.config's: ``$name``, ``${name}``, ``${section.name}``; any other ``$`` stays as it is."""

    idpattern = r"[_a-z][\._a-z0-9]*"


def substituted(texts: Mapping[Key, str], key: Key) -> str:
    """Return the text of an option with the values of the options that it names.

    Args:
        texts: what files set, as written.
        key: of one of them; names without a section are looked up in its section, then in ``[DEFAULT]``.

    Raises:
        NoSubstitute: it names an option that is unknown, or leads back to itself.
    """
    return _filled(texts, (key,))


def _filled(texts: Mapping[Key, str], way: tuple[Key, ...]) -> str:
    """Return the value of the option at the end of a way from option to option, each of which names the next."""
    text = texts.get(way[-1], DEFAULTS.get(way[-1], ""))
    return _Template(text.replace(r"\$", "$$")).safe_substitute(_Values(texts, way))


class _Values(dict[str, str]):
    """The values of options by the names that the text at the end of a way has for them."""

    def __init__(self, texts: Mapping[Key, str], way: tuple[Key, ...]) -> None:
        super().__init__()
        self._texts, self._way = texts, way

    def __missing__(self, name: str) -> str:
        # A KeyError would leave the name as it is.
        unknown = UnknownName(f"it names ${name}, which no file sets; write $$ for a $ that stands for itself")
        for key in self._keys(name):
            try:
                return self._value(key)
            except UnknownName as deeper:
                # As in oslo.config, an option that names an unknown one gives way to its namesake in [DEFAULT].
                unknown = deeper
        raise unknown

    def _keys(self, name: str) -> list[Key]:
        section, dot, option = name.partition(".")
        keys = ((canonical_section(section), option),) if dot else ((self._way[-1][0], name), (DEFAULT_SECTION, name))
        return [key for key in dict.fromkeys(keys) if key in self._texts or key in DEFAULTS]

    def _value(self, key: Key) -> str:
        if key in self._way:
            told = " -> ".join(f"[{section}] {option}" for section, option in (*self._way, key))
            raise NoSubstitute(f"it names itself: {told}")
        return _filled(self._texts, (*self._way, key))
