"""What a step of an import answers that may find its work done already."""

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
        value: what that attempt left.
        why: one line for people.
    """

    value: T
    why: str


Outcome = Done[T] | Skipped[T]
