"""What an option in the files of a Glance becomes here, or why it has no effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

STORE_SECTION: Final = "<store>"
"""Stands for the section of each store, and in single-store mode for ``[glance_store]``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the text of an option means.

    Attributes:
        value: for the setting, before its own validation; None: the setting is left as it is.
        warnings: what is not right about the text although it was understood.
    """

    value: object
    warnings: tuple[str, ...] = ()


Reader = Callable[[str], Reading]
"""Raises ValueError for texts that Glance would refuse too."""


@dataclass(frozen=True, slots=True)
class MappedOption:
    """An option of Glance that becomes a setting.

    Attributes:
        section, name: as Glance writes them.
        setting: dotted; ``<store>`` stands for the store's id.
        read: parses its text.
        note: what should be known about it, for the documentation.
        required: the store cannot be served without it.
        warning: what people should know when the value is in force; may be empty.
        secret: no error repeats its text.
    """

    section: str
    name: str
    setting: str
    read: Reader
    note: str = ""
    required: bool = False
    warning: str = ""
    secret: bool = False


@dataclass(frozen=True, slots=True)
class IgnoredOption:
    """An option of Glance that concerns imports and is not served.

    Attributes:
        section, name: as Glance writes them; a name of ``*`` stands for the whole section.
        reason: why, and what to do instead.
        harmless: values with which ignoring it changes nothing, lower case.
    """

    section: str
    name: str
    reason: str
    harmless: tuple[str, ...] = ()
