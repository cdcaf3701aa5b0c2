"""Notes about the sources of the settings that do not stop a start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoteKind(StrEnum):
    """The severity of a note."""

    WARNING = "warning"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Note:
    """A note about a source; it does not stop a start.

    Attributes:
        kind: a warning needs action; an ignored option has no effect here; unknown options may have none, and only
            ``transship config check`` shows them.
        origin: ``file:section.option``; ``file:section`` for unknown options.
        text: one line.
    """

    kind: NoteKind
    origin: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"
