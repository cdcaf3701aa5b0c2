"""Objects that housekeeping found in stores and staging without a journal row; they are listed, never touched."""

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
"""Maximum number of names saved for one place; the total is always saved."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The objects found in one place.

    Attributes:
        place: ``store:<id>`` or ``staging:<host>``.
        strays: number of objects without a journal row.
        names: the first `LONGEST_LIST` of them, sorted.
    """

    place: str
    taken_at: datetime
    strays: int
    names: tuple[str, ...]


def write_inventory(connection: Connection, place: str, names: Sequence[str]) -> None:
    """Save what was found in a place, replacing the earlier inventory."""
    values = {
        "place": place,
        "taken_at": in_seconds(0),
        "strays": len(names),
        "names": sorted(names)[:LONGEST_LIST],
    }
    add_or_replace(connection, INVENTORIES, "place", values)


def inventory_is_due(connection: Connection, place: str, interval_s: float) -> bool:
    """Return whether a place was never inspected, or its inventory is older than some seconds."""
    age_s = connection.execute(
        select(seconds_since(INVENTORIES.c.taken_at)).where(INVENTORIES.c.place == place)
    ).scalar_one_or_none()
    return age_s is None or float(age_s) >= interval_s


def inventories(connection: Connection) -> list[Inventory]:
    """Return the inventories of all places, by name."""
    rows = connection.execute(select(INVENTORIES).order_by(INVENTORIES.c.place))
    return [Inventory(row.place, row.taken_at, row.strays, tuple(row.names)) for row in rows]
