"""How an option in Glance's files maps to a setting, or why it has no effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

STORE_SECTION: Final = "<store>"
"""Placeholder for the section of each store, and in single-store mode for ``[glance_store]``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The parsed text of an option.

    Attributes:
        value: for the setting, before its validation; None: the setting is not changed.
        warnings: faults of a text that could be parsed nevertheless.
    """

    value: object
    warnings: tuple[str, ...] = ()


Reader = Callable[[str], Reading]
"""Parses a text; raises ValueError, or `ValueRefused` with a remedy, for texts that Glance would refuse too."""


@dataclass(frozen=True, slots=True)
class MappedOption:
    """An option of Glance that maps to a setting.

    Attributes:
        section, name: in Glance's spelling.
        setting: dotted; ``<store>`` stands for the store's id.
        read: parses its text.
        note: for the documentation.
        required: the store cannot be used without it.
        warning: shown when the value is in force; may be empty.
        secret: no error repeats its text.
        instead: option that makes a required one unnecessary.
        repeated: may be repeated in a file; its reader gets all values, with `config.glance.readers.REPEATED` between.
    """

    section: str
    name: str
    setting: str
    read: Reader
    note: str = ""
    required: bool = False
    warning: str = ""
    secret: bool = False
    instead: str = ""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class IgnoredOption:
    """An option of Glance that concerns imports but is not supported.

    Attributes:
        section, name: in Glance's spelling; a name of ``*`` stands for the whole section.
        reason: why, and what to do instead.
        harmless: values in lower case for which ignoring it makes no difference.
    """

    section: str
    name: str
    reason: str
    harmless: tuple[str, ...] = ()
