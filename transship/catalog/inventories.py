"""What housekeeping found in stores and staging that no journal row names: listed for people, never touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from transship.catalog.locks import add_or_replace
from transship.catalog.schema import INVENTORIES
from transship.catalog.types import in_seconds, seconds_since

LONGEST_LIST: Final = 1000
"""Names kept of one place; the number of all of them is kept in any case."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found in one place.

    Attributes:
        place: ``store:<id>`` or ``staging:<host>``.
        strays: number of things that are not ours.
        names: the first `LONGEST_LIST` of them, in order.
    """

    place: str
    taken_at: datetime
    strays: int
    names: tuple[str, ...]


def write_inventory(connection: Connection, place: str, names: Sequence[str]) -> None:
    """Write what was found in a place just now, instead of what was found before."""
    values = {
        "place": place,
        "taken_at": in_seconds(0),
        "strays": len(names),
        "names": sorted(names)[:LONGEST_LIST],
    }
    add_or_replace(connection, INVENTORIES, "place", values)


def inventory_is_due(connection: Connection, place: str, interval_s: float) -> bool:
    """Return whether a place was never looked at, or not for so many seconds."""
    age_s = connection.execute(
        select(seconds_since(INVENTORIES.c.taken_at)).where(INVENTORIES.c.place == place)
    ).scalar_one_or_none()
    return age_s is None or float(age_s) >= interval_s


def inventories(connection: Connection) -> list[Inventory]:
    """Return what is known of all places, in order of their names."""
    rows = connection.execute(select(INVENTORIES).order_by(INVENTORIES.c.place))
    return [Inventory(row.place, row.taken_at, row.strays, tuple(row.names)) for row in rows]
