"""Property protections: who may create, read, update and delete which extra properties of images.

Source: Glance, "Property protections" in its administrator's guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What a caller does with a property."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    DELETE = "delete"


EVERYBODY: Final = "@"
NOBODY: Final = "!"


@dataclass(frozen=True, slots=True)
class Protection:
    """One section of the file.

    Attributes:
        pattern: found anywhere in the names that it protects.
        permitted: roles or policies that may do each operation; `EVERYBODY` or `NOBODY` stand alone.
    """

    pattern: re.Pattern[str]
    permitted: Mapping[Operation, tuple[str, ...]]


def permits(protections: tuple[Protection, ...], operation: Operation, name: str, has: Callable[[str], bool]) -> bool:
    """Return whether a caller may do something with a property; nobody may if no section is about it.

    Args:
        protections: the first one that is about the property decides.
        name: of the property.
        has: whether the caller has a role, or passes a policy.
    """
    decisive = next((each for each in protections if each.pattern.search(name)), None)
    permitted = decisive.permitted[operation] if decisive is not None else ()
    return EVERYBODY in permitted or any(has(each) for each in permitted if each != NOBODY)
