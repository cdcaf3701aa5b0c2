"""The result of applying one object to the Prefect server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What was done."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    KEPT = "kept"
    """It was edited and differs from the configuration; it was not changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of what `apply` reports.

    Attributes:
        kind: ``work pool``, ``work queue``, ``block type``, ``block``, ``store block``, ``limit``, ``deployment`` or
            ``automation``.
        name: as the Prefect UI shows it.
        action: what was done.
        detail: what differed; empty when nothing did; never a secret.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
