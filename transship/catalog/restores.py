"""Detects that the catalogue was restored from a backup, after which its records of hidden copies may be outdated.

Each opening of a staging directory, for an import, an upload or a sweep, is counted in the catalogue and in
the directory. If the catalogue's count is lower than the directory's, it was restored. Each directory has its own
count, so the activity of other hosts after the restore does not hide it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import BigInteger, Connection, Text, case, cast, select, update

from transship.catalog.engine import Catalog
from transship.catalog.leases import Lease
from transship.catalog.locks import add_or_replace, lock_name
from transship.catalog.removal import forget_hidden
from transship.catalog.schema import META


@dataclass(frozen=True, slots=True)
class Count:
    """How often a staging directory was opened.

    Attributes:
        directory: UUID that the directory gets at the first opening.
        number: increased with each opening.
    """

    directory: str
    number: int

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return f"opened {self.directory}"


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of a staging directory.

    Attributes:
        count: including this opening.
        forgotten: URLs of hidden copies in a restored catalogue, which are now left alone.
    """

    count: Count
    forgotten: tuple[str, ...]


def count_opening(catalog: Catalog, known: Count, lease: Lease | None) -> Opening:
    """Count an opening; if the catalogue was restored since the last one, forget its hidden copies.

    Args:
        known: the directory's last count.
        lease: of the import that opens the directory, if any.
    """
    count = _counted_again(catalog, known) or _counted_on(catalog, known)
    if count is not None:
        return Opening(count, ())
    # Before counting, so a process that is killed in between detects the restore again.
    forgotten = tuple(forget_hidden(catalog, lease))
    restored = _counted_on(catalog, known, restored=True)
    return Opening(restored or known, forgotten)


def _counted_again(catalog: Catalog, known: Count) -> Count | None:
    """Return the count with one more time; None for a new directory, and when the catalogue was restored meanwhile."""
    counted = case((META.c.name == known.name, cast(META.c.value, BigInteger)))
    again = update(META).where(META.c.name == known.name, counted >= known.number)
    with catalog.statement() as connection:
        numbers = (
            connection.execute(again.values(value=cast(counted + 1, Text)).returning(META.c.value)).scalars().all()
        )
    return replace(known, number=int(numbers[0])) if numbers else None


def _counted_on(catalog: Catalog, known: Count, *, restored: bool = False) -> Count | None:
    """Increase and return the count; write nothing and return None if the catalogue was restored meanwhile.

    Args:
        restored: the restore is already known.
    """
    with catalog.write() as connection:
        lock_name(connection, known.name)
        counted = _counted(connection, known)
        if counted < known.number and not restored:
            return None
        count = replace(known, number=max(counted, known.number) + 1)
        add_or_replace(connection, META, "name", {"name": count.name, "value": str(count.number)})
    return count


def _counted(connection: Connection, count: Count) -> int:
    kept = select(META.c.value).where(META.c.name == count.name).with_for_update()
    return int(connection.execute(kept).scalar_one_or_none() or 0)
