"""Parsers for the texts of options.

They use the types of oslo.config with which Glance declares its options, so lists and mappings mean the same
as in Glance. Each refuses the texts that Glance would refuse too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from config.glance.option import Reading
from config.glance.quotes import Word, list_words, mapping_words
from transship.domain.errors import ValueRefused

if TYPE_CHECKING:
    from oslo_config import types

REPEATED: Final = "\n"
"""Stands between the values of an option that may be repeated."""

_ELLIPSIS: Final = "..."


def read_text(text: str) -> Reading:
    """Return the text unchanged."""
    return Reading(text)


def read_integer(text: str) -> Reading:
    """Return a whole number."""
    return Reading(_integer(text))


def read_positive(text: str) -> Reading:
    """Return a whole number; 0 or less, which means a library's default, does not change the setting."""
    number = _integer(text)
    return Reading(number if number > 0 else None)


def read_power_of_two(text: str) -> Reading:
    """Return a whole number, rounded down to a power of two with a warning."""
    number = _integer(text)
    if number < 1:
        raise ValueRefused(f"{number} is too small", "write a power of two, e.g. 8")
    rounded = 1 << (number.bit_length() - 1)
    return Reading(rounded, () if rounded == number else (f"{number} was rounded down to {rounded}, a power of two",))


def read_boolean(text: str) -> Reading:
    """Return the boolean for a word such as ``true``, ``on`` or ``0``."""
    try:
        return Reading(_types().Boolean()(text))
    except ValueError as error:
        raise ValueRefused("is neither true nor false", "write true or false") from error


def read_port(text: str) -> Reading:
    """Return the number of a TCP port."""
    try:
        return Reading(_types().Port()(text))
    except ValueError as error:
        raise ValueRefused("is not a port", "write a number from 0 to 65535") from error


def read_words(text: str) -> Reading:
    """Return the words of a list in brackets."""
    return _bounded(text, _types().String(quotes=True))


def read_hosts(text: str) -> Reading:
    """Return the addresses and host names of a list in brackets."""
    return _bounded(text, _types().HostAddress())


def read_ports(text: str) -> Reading:
    """Return the ports of a list in brackets."""
    return _bounded(text, _types().Port(min=1))


def read_staging_uri(text: str) -> Reading:
    """Return the directory of a ``file://`` URI."""
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise ValueRefused("is not a file:///path/to/dir URI", "name a directory of this host")
    return Reading(unquote(parts.path))


def read_host_url(text: str) -> Reading:
    """Return the URL of a host, whose scheme may be missing and is http then."""
    text = text.strip()
    return Reading(text if not text or "://" in text else f"http://{text}")


def read_file_mode(text: str) -> Reading:
    """Return the octal mode of stored files; Glance's 0 does not change the setting."""
    number = _integer(text)
    return Reading(None if number <= 0 else f"{number:04}")


def read_optional_path(text: str) -> Reading:
    """Return a path; an empty one does not change the setting, as in the libraries that Glance passes it to."""
    return Reading(text.strip() or None)


def read_directories(text: str) -> Reading:
    """Return the directories of a repeated option, each with an optional weight; see `split_weight`.

    Like Glance, this passes over a directory that is repeated with the same weight.
    """
    found: dict[str, int] = {}
    repeated: list[str] = []
    for path, weight in map(split_weight, text.split(REPEATED)):
        if found.get(path, weight) != weight:
            raise ValueRefused(f"{path} has two weights", "name each directory once")
        if path in found:
            repeated.append(path)
        if path:
            found[path] = weight
    warnings = tuple(f"{path} is named more than once" for path in repeated)
    return Reading([f"{path}:{weight}" for path, weight in found.items()] or None, warnings)


def split_weight(text: str) -> tuple[str, int]:
    """Return directory and weight of a ``/path:weight``; the weight is 0 if it is left out.

    Raises:
        ValueRefused: the weight is not a whole number.
    """
    path, colon, weight = text.rpartition(":")
    if not colon:
        return text.strip(), 0
    try:
        return path.strip(), int(weight.strip() or 0)
    except ValueError as error:
        remedy = "write /path or /path:weight; a path with a colon needs a weight"
        raise ValueRefused(f"{weight!r} is not a weight", remedy) from error


def read_plain_list(text: str) -> Reading:
    """Return comma-separated items; brackets, quotes and an ellipsis are removed with a warning.

    Glance would keep them as part of the items, which would then never match.
    """
    form = "write a plain list, e.g. a,b"
    inner, warnings = _unbracketed(text.strip().rstrip(","), (("[", "]"),), form)
    words = list_words(inner)
    items = [word.text for word in words if word.text or word.quoted]
    if any(word.quoted for word in words):
        warnings.append(f"quotes were removed: {form}")
    else:
        items = _types().List()(inner)
    alone = [item for item in items if item.startswith("[") or item.endswith("]")]
    if alone:
        raise ValueRefused(f"unmatched bracket in {alone[0]!r}", form)
    kept = [item for item in items if item != _ELLIPSIS]
    return Reading(kept, (*warnings, *_left_out(items, kept)))


def read_inject(text: str) -> Reading:
    """Return properties and values; brackets, quotes and an ellipsis are removed with a warning.

    Glance would keep brackets and quotes as part of names and values, and refuse the ellipsis.
    """
    form = "write it as property1:value1,property2:value2"
    inner, warnings = _unbracketed(text.strip(), (("[", "]"), ("{", "}")), form)
    pieces = mapping_words(inner)
    kept = [piece for piece in pieces if piece[0].text != _ELLIPSIS]
    try:
        if any(word.quoted for piece in pieces for word in piece):
            warnings.append(f"quotes were removed: {form}")
            properties = _quoted_properties(kept)
        else:
            properties = _types().Dict()(",".join(":".join(word.text for word in piece) for piece in kept))
    except ValueError as error:
        raise ValueRefused(str(error), form) from error
    return Reading(properties, (*warnings, *_left_out(pieces, kept)))


def _quoted_properties(pieces: Sequence[tuple[Word, ...]]) -> dict[str, str]:
    """Return the properties of a mapping with quotes; one pair of quotes may enclose name and value together."""
    properties: dict[str, str] = {}
    for words in pieces:
        name, *value = [word.text for word in words] if len(words) > 1 else words[0].text.split(":", 1)
        if not name or not value:
            raise ValueError('Value should be NAME:VALUE pairs separated by ","')
        if name in properties:
            raise ValueError(f"Duplicate key {name}")
        properties[name] = value[0]
    return properties


def _unbracketed(text: str, brackets: Sequence[tuple[str, str]], form: str) -> tuple[str, list[str]]:
    """Remove brackets around a whole value; return the rest, and a warning if there were any."""
    for first, last in brackets:
        if text.startswith(first) and text.endswith(last):
            return text[1:-1], [f"brackets were removed: {form}"]
    return text, []


def _left_out(found: Sequence[object], kept: Sequence[object]) -> tuple[str, ...]:
    return () if kept == found else (f"'{_ELLIPSIS}' was ignored: it has no meaning",)


def read_cache_time(text: str) -> Reading:
    """Return seconds; the middleware's -1 means no cache."""
    return Reading(max(0, _integer(text)))


def read_storage(text: str) -> Reading:
    """Return bytes; a number without a unit is bytes already, and ``KB`` is 1024 of them."""
    found = re.fullmatch(r"([0-9]+)([KMGT]?)B?", text.strip())
    if found is None:
        raise ValueRefused("is not an amount of storage", "write a number with B, KB, MB, GB or TB, e.g. 10GB")
    return Reading(int(found[1]) * 1024 ** "_KMGT".index(found[2] or "_"))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueRefused("is not a whole number", "write digits only") from error


def _bounded(text: str, item: types.ConfigType) -> Reading:
    try:
        return Reading(_types().List(item, bounds=True)(text))
    except ValueError as error:
        remedy = "" if text.strip().startswith("[") else "write a list in brackets, e.g. [a, b]"
        raise ValueRefused(str(error), remedy) from error


def _types() -> Any:  # the package has no types of its own
    # Importing it takes a third of a second, so it is only done if there are Glance files.
    from oslo_config import types  # noqa: PLC0415

    return types
