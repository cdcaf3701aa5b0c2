"""What people should know about the sources of the settings although the start goes on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoteKind(StrEnum):
    """How much a note matters."""

    WARNING = "warning"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a source that people should know; the start goes on.

    Attributes:
        kind: a warning is to be acted on; an ignored option has no effect here.
        origin: ``file:section.option``.
        text: one line.
    """

    kind: NoteKind
    origin: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"
