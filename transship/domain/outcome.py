"""The outcome of an import's step whose work may be done already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The step did its work."""

    value: T


@dataclass(frozen=True, slots=True)
class Skipped(Generic[T]):
    """An earlier attempt did the work.

    Attributes:
        value: that attempt's result.
        why: one line for display.
    """

    value: T
    why: str


Outcome = Done[T] | Skipped[T]
