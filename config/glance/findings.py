"""What the options of a Glance's files come to: settings, notes for people, refusals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from config.glance.files import Entry
from config.glance.option import MappedOption
from config.glance.substitutes import Key, substituted
from config.notes import Note, NoteKind
from transship.domain.errors import ConfigurationRefused

_LONGEST_SHOWN: Final = 80
_NO_VALUE: Final = "cannot be read: it names an option that has no value"
_OWN_DOLLAR: Final = "write $$ for a $ that stands for itself"


@dataclass(frozen=True, slots=True)
class GlanceValue:
    """One setting from a Glance file.

    Attributes:
        path: of the setting.
        value: before validation.
        origin: ``file:section.option``.
        warning: shown if no later source overrides the value; may be empty.
    """

    path: tuple[str, ...]
    value: object
    origin: str
    warning: str = ""


class Findings:
    """Goes through the entries once; what it finds stands in its lists.

    Attributes:
        entries: by section and option; of several for one option the one that wins.
        values: settings; those of refused options are not among them.
        notes: for people.
        refused: what must stop the start.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: dict[Key, Entry] = {entry.key: entry for entry in entries}
        self.values: list[GlanceValue] = []
        self.notes: list[Note] = []
        self.refused: list[ConfigurationRefused] = []
        self._texts = {key: entry.text for key, entry in self.entries.items()}

    def first(self, sections: Sequence[str], name: str) -> Entry | None:
        """Return an option of the first section that has it."""
        return next((self.entries[section, name] for section in sections if (section, name) in self.entries), None)

    def text_of(self, entry: Entry) -> str:
        """Return the text of an option with the values of the options that it names.

        Raises:
            ValueError: it names an option that has no value.
        """
        return substituted(self._texts, entry.key)

    def map(self, option: MappedOption, entry: Entry, store_id: str = "") -> None:
        """Take the setting that an option becomes."""
        try:
            reading = option.read(self.text_of(entry))
        except ValueError as error:
            cause, _, remedy = str(error).partition("; ")
            told = (f"{cause}, found {entry.text[:_LONGEST_SHOWN]!r}", remedy)
            self.refused.append(entry.refused(*((_NO_VALUE, _OWN_DOLLAR) if option.secret else told)))
            return
        for warning in reading.warnings:
            self.warn(entry, warning)
        if reading.value is not None:
            path = tuple(store_id if part == "<store>" else part for part in option.setting.split("."))
            self.values.append(GlanceValue(path, reading.value, entry.origin, option.warning))

    def warn(self, entry: Entry, text: str) -> None:
        """Take what people have to act on."""
        self.notes.append(Note(NoteKind.WARNING, entry.origin, text))

    def ignore(self, entry: Entry, reason: str) -> None:
        """Take that an option has no effect."""
        self.notes.append(Note(NoteKind.IGNORED, entry.origin, reason))
