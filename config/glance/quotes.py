"""Parses lists and mappings in Glance's files in which names and values are quoted individually.

Glance keeps such quotes as part of the names. The file parser also strips the first and the last quote, as if they
enclosed the whole value: ``"a","b"`` becomes ``a","b``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from transship.domain.errors import ValueRefused

_Found = TypeVar("_Found")
_QUOTES: Final = "\"'"
_BETWEEN_QUOTED: Final = re.compile(r"([\"'])\s*:\s*\1")
"""What is between a quoted name and a quoted value whose outer quotes were stripped."""


@dataclass(frozen=True, slots=True)
class Word:
    """A name or a value.

    Attributes:
        text: without quotes and surrounding blanks.
        quoted: whether it was in quotes.
        after: the separator that follows it; empty at the end.
    """

    text: str
    quoted: bool
    after: str


def list_words(text: str) -> list[Word]:
    """Return the items of a comma-separated list.

    Raises:
        ValueRefused: a quote is unmatched.
    """
    return _requoted(text, _items)


def mapping_words(text: str) -> list[tuple[Word, ...]]:
    """Return names and values of a mapping: the words of each item, a single word if it has no colon.

    A quote at the end of a value without one at its beginning is part of the value, such as an inch mark.

    Raises:
        ValueRefused: another quote is unmatched.
    """
    return _requoted(text, _pairs)


def _requoted(text: str, read: Callable[[str], list[_Found]]) -> list[_Found]:
    """Parse a text as it is or, if that fails, with the quotes that the file parser stripped."""
    try:
        return read(text)
    except ValueRefused:
        first, newline, others = text.partition("\n")
        for quote in _QUOTES:
            # If the first and the last quote were stripped, their counterparts are still there.
            if first.count(quote) >= 2:
                with suppress(ValueRefused):
                    return read(f"{quote}{first}{quote}{newline}{others}")
        raise


def _items(text: str) -> list[Word]:
    return [_refuse_open(word) for word in _words(text, {"": ",", ",": ","})]


def _pairs(text: str) -> list[tuple[Word, ...]]:
    pairs: list[tuple[Word, ...]] = []
    before = ","
    for word in _words(text, {"": ":,", ",": ":,", ":": ","}):
        if before == ":":
            if not word.quoted and _BETWEEN_QUOTED.search(word.text):
                raise _unmatched(word.text)
            pairs[-1] = (*pairs[-1], word)
        else:
            pairs.append((_refuse_open(word),))
        before = word.after
    return pairs


def _words(text: str, separators: Mapping[str, str]) -> Iterator[Word]:
    """Yield words; what ends a word depends on the separator before it, which is empty at the beginning."""
    rest, before = text, ""
    while True:
        word, rest = _next_word(rest.lstrip(), separators[before])
        yield word
        before = word.after
        if not before:
            return


def _next_word(text: str, separators: str) -> tuple[Word, str]:
    quote = text[:1] if text[:1] in _QUOTES else ""
    if not quote:
        end = next((at for at, char in enumerate(text) if char in separators), len(text))
        return Word(text[:end].strip(), False, text[end : end + 1]), text[end + 1 :]
    inner, closing, rest = text[1:].partition(quote)
    rest = rest.lstrip()
    if not closing or rest[:1] not in ("", *separators):
        raise _unmatched(text)
    return Word(inner, True, rest[:1]), rest[1:]


def _refuse_open(word: Word) -> Word:
    if not word.quoted and word.text.endswith(tuple(_QUOTES)):
        raise _unmatched(word.text)
    return word


def _unmatched(text: str) -> ValueRefused:
    return ValueRefused(f"a quote in {text[:40]!r} is unmatched", "write names and values without quotes")
