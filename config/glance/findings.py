"""Collects the results of reading Glance's files: settings, notes and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from config.gathering import as_refused
from config.glance.files import Entry
from config.glance.option import IgnoredOption, MappedOption
from config.glance.substitutes import LITERAL_DOLLAR, Key, substituted
from config.notes import Note, NoteKind
from transship.domain.errors import ConfigurationRefused

_LONGEST_SHOWN: Final = 80
_NO_VALUE: Final = "refers to an option without a value"


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
    """The results so far.

    Attributes:
        entries: by section and option, without those that a later one overrides.
        values: settings, without those of refused options.
        notes: for display.
        refused: errors that stop the start.
        unread: entries that nothing has looked at yet.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: dict[Key, Entry] = {entry.key: entry for entry in entries}
        self.values: list[GlanceValue] = []
        self.notes: list[Note] = []
        self.refused: list[ConfigurationRefused] = []
        self.unread = dict(self.entries)
        self._texts = {key: entry.text for key, entry in self.entries.items()}

    def first(self, sections: Sequence[str], name: str) -> Entry | None:
        """Return an option of the first section that has it."""
        return next((entry for section in sections if (entry := self.entries.get((section, name)))), None)

    def text_of(self, entry: Entry) -> str:
        """Return the text of an option with all references replaced.

        Raises:
            ValueRefused: a reference has no value.
        """
        self.unread.pop(entry.key, None)
        return substituted(self._texts, entry.key)

    def map(self, option: MappedOption, entry: Entry, store_id: str = "") -> None:
        """Add the setting that an option maps to, or the reason why its text is refused."""
        try:
            reading = option.read(self.text_of(entry))
        except ValueError as error:
            if option.secret:
                self.refused.append(entry.refused(_NO_VALUE, LITERAL_DOLLAR))
            else:
                self.refuse(entry, error)
            return
        for warning in reading.warnings:
            self.warn(entry, warning)
        if reading.value is not None:
            path = tuple(store_id if part == "<store>" else part for part in option.setting.split("."))
            self.values.append(GlanceValue(path, reading.value, entry.origin, option.warning))

    def refuse(self, entry: Entry, error: ValueError) -> None:
        """Add the reason why the text of an option is refused."""
        refused = as_refused(error)
        self.refused.append(entry.refused(f"{refused.reason}, found {entry.text[:_LONGEST_SHOWN]!r}", refused.remedy))

    def warn(self, entry: Entry, text: str) -> None:
        """Add a warning about an option."""
        self.unread.pop(entry.key, None)
        self.notes.append(Note(NoteKind.WARNING, entry.origin, text))

    def pass_over(self, entry: Entry, option: IgnoredOption) -> None:
        """Note that an option has no effect, unless ignoring its value makes no difference."""
        self.unread.pop(entry.key, None)
        if entry.text.strip().lower() not in option.harmless:
            self.ignore(entry, option.reason)

    def ignore(self, entry: Entry, reason: str) -> None:
        """Add a note that an option has no effect."""
        self.unread.pop(entry.key, None)
        self.notes.append(Note(NoteKind.IGNORED, entry.origin, reason))
