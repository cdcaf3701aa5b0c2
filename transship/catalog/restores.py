"""Notice that the catalogue was restored from a backup: it then wants to remove what may have come back since.

Each sweep has a number, which the catalogue and the staging directory keep. A catalogue that knows of fewer sweeps
than the directory is an older state of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_or_replace, lock_name
from transship.catalog.removal import forget_removals
from transship.catalog.schema import META

COUNTER: Final = "sweeps"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One run of housekeeping.

    Attributes:
        number: greater than that of any sweep before.
        forgotten: URLs of the copies that a restored catalogue wanted to remove, and that are now left alone.
    """

    number: int
    forgotten: tuple[str, ...]


def next_sweep(catalog: Catalog, last_known: int) -> Sweep:
    """Begin a sweep. A catalogue that was restored since forgets what it wanted to remove.

    Args:
        last_known: number of the last sweep as the staging directory has it, 0 when it knows none.
    """
    with catalog.write() as connection:
        lock_name(connection, COUNTER)
        kept = connection.execute(select(META.c.value).where(META.c.name == COUNTER)).scalar_one_or_none()
        counted = int(kept or 0)
        forgotten = forget_removals(connection) if counted < last_known else []
        number = max(counted, last_known) + 1
        add_or_replace(connection, META, "name", {"name": COUNTER, "value": str(number)})
    return Sweep(number, tuple(forgotten))
