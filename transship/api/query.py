"""Parses the query string of an image list into a value. Pure functions.

Source: Images API v2, "List images".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from urllib.parse import urlencode

from config.settings import ApiSettings
from transship.api.bodies import storable
from transship.catalog.search import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    TIME_COLUMNS,
    Bound,
    Comparison,
    ImageQuery,
    Sort,
    SortKey,
    Span,
)
from transship.domain.errors import BadRequest
from transship.domain.image import Visibility
from transship.domain.visibility import Viewer

Pairs = Sequence[tuple[str, str]]
Value = TypeVar("Value")

_MULTIPLE: Final = frozenset({"tag", "sort_key", "sort_dir"})
_NO_FILTERS: Final = frozenset(
    {
        "limit", "marker", "sort", "tag", "sort_key", "sort_dir", "visibility", "member_status", "os_hidden",
        "protected", "deleted",
    }
)  # fmt: skip
"""``deleted`` has no effect: nobody is shown deleted images."""

_LISTABLE: Final = frozenset({"name", "id", "status", "container_format", "disk_format"})
"""Attributes that accept ``in:`` with several values, and ``eq:`` with one."""

_MEMBER_STATUSES: Final[Mapping[str, str]] = {
    "pending": "pending",
    "accepted": "accepted",
    "rejected": "rejected",
    "all": "",
}
_TRUTHS: Final[Mapping[str, bool]] = {"true": True, "false": False}
_SHOWN_TO: Final = timedelta(seconds=1)
"""Times are shown to the second, so they are also compared to the second."""

_FIRST_TIME: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST_TIME: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""Times outside of these cannot be used in arithmetic."""

_TIME_COMPARISONS: Final = ("gt", "gte", "lt", "lte", "eq", "neq")
_OPERATORS: Final = "gt:, gte:, lt:, lte:, eq: or neq:"

MOST_FILTERS: Final = 128
"""Most filters by property and tag together; SQLite limits expressions to 1000 levels."""

MOST_CHOICES: Final = 1000
"""Most values after ``in:``."""

_ESCAPED: Final = re.compile(r"\\(.)")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(?:,|$)')
_PLAIN: Final = re.compile(r'([^",]*)(?:,|$)')


def parse_query(pairs: Pairs, viewer: Viewer, settings: ApiSettings) -> ImageQuery:
    """Return the query for a query string.

    Args:
        pairs: decoded names and values in the order of the query string.

    Raises:
        BadRequest: names the parameter and its valid values.
    """
    values = {name: value for name, value in pairs if name not in _MULTIPLE}
    if not storable([part for pair in pairs for part in pair]):
        raise BadRequest("The query string holds a NUL character.")
    if "changes-since" in values:
        raise BadRequest('The "changes-since" filter is no longer available on v2.')
    if "os_hidden" in values:
        values["os_hidden"] = values["os_hidden"].lower()
    visibility = choice(values, "visibility", {"all": "all", **{str(each): str(each) for each in Visibility}})
    filters = {name: value for name, value in values.items() if name not in _NO_FILTERS}
    bounded = {name: value for name, value in filters.items() if _bounded_column(name)}
    properties = {name: value for name, value in filters.items() if _is_property(name)}
    tags = tuple(dict.fromkeys(value.strip() for name, value in pairs if name == "tag"))
    if len(properties) + len(tags) > MOST_FILTERS:
        found = f"{len(properties) + len(tags)} filters by property and tag"
        raise BadRequest(found, f"at most {MOST_FILTERS} are read")
    member_status = choice(values, "member_status", _MEMBER_STATUSES)
    return ImageQuery(
        viewer,
        visibility=None if visibility in (None, "all") else Visibility(visibility),
        whole_community=visibility == "all",
        member_status="accepted" if member_status is None else member_status,
        os_hidden=bool(choice(values, "os_hidden", _TRUTHS)),
        protected=choice(values, "protected", _TRUTHS),
        texts={name: _texts(name, filters[name]) for name in TEXT_COLUMNS if name in filters},
        numbers={name: _integer(name, filters[name]) for name in NUMBER_COLUMNS if name in filters},
        bounds=tuple(_size_bound(name, value) for name, value in bounded.items())
        + tuple(bound for name in TIME_COLUMNS if name in filters for bound in _time_bounds(name, filters[name])),
        spans=tuple(span for name in TIME_COLUMNS if name in filters for span in _spans(name, filters[name])),
        properties=properties,
        tags=tags,
        sort=_sort(pairs, values),
        limit=page_limit(values, settings),
        marker=page_marker(values),
    )


def choice(values: Mapping[str, str], name: str, choices: Mapping[str, Value]) -> Value | None:
    """Return the value for a parameter's choice; None when it was not sent.

    Raises:
        BadRequest: names the parameter and its valid values.
    """
    if name not in values:
        return None
    try:
        return choices[values[name]]
    except KeyError:
        raise BadRequest(f"Invalid {name} '{values[name]}'", f"it is one of: {', '.join(choices)}") from None


def _is_property(name: str) -> bool:
    return name not in (*TEXT_COLUMNS, *NUMBER_COLUMNS, *TIME_COLUMNS) and not _bounded_column(name)


def _bounded_column(name: str) -> str:
    """Return the attribute limited by a parameter such as ``size_min``; empty for other names."""
    column = name.removesuffix("_min") if name.endswith("_min") else name.removesuffix("_max")
    return column if column != name and column in NUMBER_COLUMNS else ""


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f"Invalid {name} '{text[:40]}'", "it is a whole number")
    return int(text)


def page_url(collection: str, pairs: Pairs) -> str:
    """Return the path of a page of a collection, including the query."""
    return f"{collection}?{urlencode(pairs)}" if pairs else collection


def page_limit(values: Mapping[str, str], settings: ApiSettings) -> int:
    """Return the maximum number of entries on a page.

    Raises:
        BadRequest: the parameter is not a number, or is negative.
    """
    if "limit" not in values:
        return min(settings.limit_param_default, settings.api_limit_max)
    limit = _integer("limit", values["limit"])
    if limit < 0:
        raise BadRequest("limit param must be positive")
    return min(limit, settings.api_limit_max)


def page_marker(values: Mapping[str, str]) -> str:
    """Return the id after which a page begins; empty for the first page.

    Raises:
        BadRequest: the parameter is empty.
    """
    marker = values.get("marker")
    if marker is not None and not marker.strip():
        raise BadRequest("The marker is empty", "send the id of the previous page's last entry, or no marker")
    return (marker or "").lower()


def _size_bound(name: str, text: str) -> Bound:
    value = _integer(name, text)
    if name.endswith("_min"):
        return Bound(_bounded_column(name), Comparison.FROM, value)
    return Bound(_bounded_column(name), Comparison.BELOW, value + 1)


def _time_bounds(name: str, text: str) -> tuple[Bound, ...]:
    comparison, moment = _compared_time(name, text)
    match comparison:
        case "gt":
            return (Bound(name, Comparison.FROM, moment + _SHOWN_TO),)
        case "gte":
            return (Bound(name, Comparison.FROM, moment),)
        case "lt":
            return (Bound(name, Comparison.BELOW, moment),)
        case "lte":
            return (Bound(name, Comparison.BELOW, moment + _SHOWN_TO),)
    return ()


def _spans(name: str, text: str) -> tuple[Span, ...]:
    comparison, moment = _compared_time(name, text)
    if comparison not in ("eq", "neq"):
        return ()
    return (Span(name, moment, moment + _SHOWN_TO, inside=comparison == "eq"),)


def _compared_time(name: str, text: str) -> tuple[str, datetime]:
    comparison, colon, rest = text.partition(":")
    if not colon or comparison not in _TIME_COMPARISONS:
        comparison, rest = "eq", text
    try:
        moment = datetime.fromisoformat(rest)
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"Invalid {name} '{text[:60]}'", f"it is an ISO 8601 time after {_OPERATORS}") from error
    return comparison, min(max(aware, _FIRST_TIME), _LAST_TIME).replace(microsecond=0)


def _texts(name: str, text: str) -> tuple[str, ...]:
    if name not in _LISTABLE or not text.startswith("in:"):
        return (text.removeprefix("eq:") if name in _LISTABLE else text,)
    found = tuple(_split(name, text.removeprefix("in:")))
    if len(found) > MOST_CHOICES:
        raise BadRequest(f"The filter of {name} names {len(found)} values", f"at most {MOST_CHOICES} are read")
    return found


def _split(name: str, text: str) -> list[str]:
    """Return the values of a list; values in double quotes may contain commas."""
    found: list[str] = []
    at = 0
    while at <= len(text):
        quoted = _QUOTED.match(text, at)
        value = quoted or _PLAIN.match(text, at)
        if value is None:
            raise BadRequest(f"Invalid filter value {text[:60]} of {name}: the quotes do not match.")
        found.append(_ESCAPED.sub(r"\1", value[1]) if quoted else value[1])
        if value.end() == len(text) and not value[0].endswith(","):
            return found
        at = value.end()
    return found


def _sort(pairs: Pairs, values: Mapping[str, str]) -> tuple[Sort, ...]:
    keys = [value.strip() for name, value in pairs if name == "sort_key"]
    directions = [value.strip() for name, value in pairs if name == "sort_dir"]
    if "sort" not in values:
        return _sort_of(keys or [SortKey.CREATED_AT], directions)
    if keys or directions:
        raise BadRequest("Old and new sorting syntax cannot be combined")
    levels = [level.partition(":") for level in values["sort"].strip().split(",")]
    return _sort_of([key.strip() for key, _, _ in levels], [way.strip() or "desc" for _, _, way in levels])


def _sort_of(keys: Sequence[str], directions: Sequence[str]) -> tuple[Sort, ...]:
    if len(directions) > 1 and len(directions) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    ways = list(directions) if len(directions) == len(keys) else [directions[0] if directions else "desc"] * len(keys)
    for key in keys:
        if key not in set(SortKey):
            raise BadRequest(f"Invalid sort key: {key[:40]}. It must be one of the following: {', '.join(SortKey)}.")
    for way in ways:
        if way not in ("asc", "desc"):
            raise BadRequest(f"Invalid sort direction: {way[:40]}. It must be one of the following: asc, desc.")
    # The second occurrence of a key has no effect.
    first = dict(reversed(list(zip(keys, ways, strict=True))))
    return tuple(Sort(SortKey(key), first[key] == "desc") for key in dict.fromkeys(keys))
