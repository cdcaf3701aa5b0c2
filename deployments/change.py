"""What applying did to one object of the Prefect server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What was done."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """It differs from the configuration because somebody edited it, and was left so."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of what `apply` reports.

    Attributes:
        kind: ``work pool``, ``work queue``, ``block type``, ``store block``, ``limit``, ``deployment`` or
            ``automation``.
        name: as the Prefect UI shows it.
        action: what was done.
        detail: what differed, empty when nothing did; never a secret.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
