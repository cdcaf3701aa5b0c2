"""Finds images: the query as a value, and its SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, String, and_, false, func, literal, or_, select, true

from transship.catalog.images import load_images
from transship.catalog.schema import IMAGES, MEMBERS, PROPERTIES, TAGS
from transship.catalog.types import InByteOrder, UtcTime
from transship.domain.errors import BadRequest
from transship.domain.image import Image, Visibility
from transship.domain.visibility import Viewer


class Comparison(StrEnum):
    """How a column is compared with a bound."""

    BELOW = "<"
    FROM = ">="


class SortKey(StrEnum):
    """Attributes that a list can be sorted by."""

    NAME = "name"
    STATUS = "status"
    CONTAINER_FORMAT = "container_format"
    DISK_FORMAT = "disk_format"
    SIZE = "size"
    ID = "id"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort key and its direction."""

    key: SortKey
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of a numeric attribute or a time.

    Attributes:
        column: ``size``, ``virtual_size``, ``min_disk``, ``min_ram``, ``created_at`` or ``updated_at``.
        value: bytes, GB, MB, or an aware time.
    """

    column: str
    comparison: Comparison
    value: int | datetime


@dataclass(frozen=True, slots=True)
class Span:
    """A time range that a time must be inside or outside of.

    Attributes:
        column: ``created_at`` or ``updated_at``.
        begin, end: aware times; ``end`` is exclusive.
        inside: False for images whose time is outside.
    """

    column: str
    begin: datetime
    end: datetime
    inside: bool = True


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Which images, in which order, and how many.

    Attributes:
        viewer: the caller; images that it may not see are not found.
        visibility: only images with this visibility; None for the default list.
        whole_community: whether the list includes other projects' community images without asking for them alone.
        member_status: status of memberships through which shared images are found; empty: any.
        os_hidden: True for only hidden images, False for only visible ones.
        protected: None for both.
        texts: allowed values by text attribute.
        numbers: exact value by numeric attribute.
        bounds, spans: limits of numbers and times; all must hold.
        properties: extra properties with their exact values; all must match.
        tags: the image has all of them.
        sort: keys by priority; ``created_at`` and ``id`` are appended.
        limit: maximum number of images.
        marker: id of the last image of the previous page; empty for the first page.
    """

    viewer: Viewer
    visibility: Visibility | None = None
    whole_community: bool = False
    member_status: str = "accepted"
    os_hidden: bool = False
    protected: bool | None = None
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()
    spans: tuple[Span, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    sort: tuple[Sort, ...] = (Sort(SortKey.CREATED_AT),)
    limit: int = 25
    marker: str = ""


TEXT_COLUMNS: Final = (
    "id", "name", "status", "disk_format", "container_format", "checksum", "os_hash_algo", "os_hash_value", "owner"
)  # fmt: skip
NUMBER_COLUMNS: Final = ("size", "virtual_size", "min_disk", "min_ram")
TIME_COLUMNS: Final = ("created_at", "updated_at")


def find_images(connection: Connection, query: ImageQuery) -> list[Image]:
    """Return the images of one page.

    Raises:
        BadRequest: the marker is not an image that the caller may see.
    """
    conditions = _conditions(query)
    levels = _levels(query.sort)
    if query.marker:
        conditions.append(_after(connection, query, levels))
    page = (
        select(IMAGES.c.id)
        .where(*conditions)
        .order_by(*(_sortable(level.key).desc() if level.descending else _sortable(level.key) for level in levels))
        .limit(query.limit)
    )
    return load_images(connection, list(connection.execute(page).scalars()))


def _conditions(query: ImageQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [
        IMAGES.c.deleted_at.is_(None),
        IMAGES.c.os_hidden.is_(query.os_hidden),
        _visible(query),
    ]
    if query.protected is not None:
        wanted.append(IMAGES.c.protected.is_(query.protected))
    wanted += [IMAGES.c[name].in_(values) for name, values in query.texts.items()]
    wanted += [IMAGES.c[name] == _operand(value) for name, value in query.numbers.items()]
    wanted += [_within(bound) for bound in query.bounds]
    wanted += [_during(span) for span in query.spans]
    wanted += [_has_property(name, value) for name, value in query.properties.items()]
    wanted += [_has_tag(tag) for tag in query.tags]
    return wanted


def _visible(query: ImageQuery) -> ColumnElement[bool]:
    """Return the rules of `transship.domain.visibility.may_see`, narrowed to the query."""
    asked = true() if query.visibility is None else IMAGES.c.visibility == query.visibility
    viewer = query.viewer
    own = IMAGES.c.owner == viewer.project_id if viewer.project_id else false()
    community = query.whole_community or query.visibility is Visibility.COMMUNITY
    if viewer.is_admin:
        return asked if community else and_(asked, or_(own, IMAGES.c.visibility != Visibility.COMMUNITY))
    others = [Visibility.PUBLIC, Visibility.COMMUNITY] if community else [Visibility.PUBLIC]
    return and_(asked, or_(own, IMAGES.c.visibility.in_(others), _shared_with(query)))


def _shared_with(query: ImageQuery) -> ColumnElement[bool]:
    if not query.viewer.project_id:
        return false()
    membership = select(MEMBERS.c.image_id).where(
        MEMBERS.c.image_id == IMAGES.c.id, MEMBERS.c.member == query.viewer.project_id
    )
    if query.member_status:
        membership = membership.where(MEMBERS.c.status == query.member_status)
    return and_(IMAGES.c.visibility == Visibility.SHARED, membership.exists())


def _within(bound: Bound) -> ColumnElement[bool]:
    column, value = IMAGES.c[bound.column], _operand(bound.value)
    return column < value if bound.comparison is Comparison.BELOW else column >= value


def _operand(value: int | datetime) -> ColumnElement[Any]:
    # PostgreSQL would cast a number to the column's own type, and refuse one that is too large for it.
    return literal(value, BigInteger) if isinstance(value, int) else literal(value, UtcTime)


def _during(span: Span) -> ColumnElement[bool]:
    column = IMAGES.c[span.column]
    inside = and_(column >= span.begin, column < span.end)
    return inside if span.inside else or_(column < span.begin, column >= span.end)


def _has_property(name: str, value: str) -> ColumnElement[bool]:
    return (
        select(PROPERTIES.c.image_id)
        .where(PROPERTIES.c.image_id == IMAGES.c.id, PROPERTIES.c.name == name, PROPERTIES.c.value == value)
        .exists()
    )


def _has_tag(tag: str) -> ColumnElement[bool]:
    return select(TAGS.c.image_id).where(TAGS.c.image_id == IMAGES.c.id, TAGS.c.tag == tag).exists()


def _levels(sort: Sequence[Sort]) -> list[Sort]:
    """Return the sort keys with those that make the order total."""
    descending = sort[0].descending if len(sort) == 1 else True
    missing = [key for key in (SortKey.CREATED_AT, SortKey.ID) if key not in {level.key for level in sort}]
    return [*sort, *(Sort(key, descending) for key in missing)]


def _sortable(key: SortKey) -> ColumnElement[Any]:
    """Return the column with nulls replaced by a value that sorts first, because a comparison with null is unknown."""
    column = IMAGES.c[key]
    if key is SortKey.SIZE:
        return func.coalesce(column, -1)
    if not isinstance(column.type, String) or key is SortKey.ID:
        # All ids have the same form, so every collation sorts them alike, and this column has an index.
        return column
    return InByteOrder(func.coalesce(column, "") if column.nullable else column)


def _after(connection: Connection, query: ImageQuery, levels: Sequence[Sort]) -> ColumnElement[bool]:
    """Return the condition for images after the marker, comparing key by key."""
    seen = _visible(ImageQuery(query.viewer, whole_community=True, member_status=""))
    # An administrator may go on after an image that was deleted meanwhile.
    known = select(*(_sortable(level.key) for level in levels)).where(
        IMAGES.c.id == query.marker, seen, true() if query.viewer.is_admin else IMAGES.c.deleted_at.is_(None)
    )
    row = connection.execute(known).first()
    if row is None:
        raise BadRequest(f"Invalid marker: there is no image with ID {query.marker}")
    columns = [_sortable(level.key) for level in levels]
    values = [literal(value, column.type) for value, column in zip(row, columns, strict=True)]
    beyond = []
    for n, level in enumerate(levels):
        equal = [column == value for column, value in zip(columns[:n], values[:n], strict=True)]
        further = columns[n] < values[n] if level.descending else columns[n] > values[n]
        beyond.append(and_(*equal, further))
    return or_(*beyond)
