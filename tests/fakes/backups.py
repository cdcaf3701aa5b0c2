"""Backs up a catalogue and restores it, as operators do after a loss."""

from __future__ import annotations

from sqlalchemy import Table, delete, insert, select

from transship.catalog.engine import Catalog
from transship.catalog.schema import METADATA

TABLES = METADATA.sorted_tables


def contents_of(catalog: Catalog) -> dict[Table, list[dict[str, object]]]:
    """Return all rows."""
    with catalog.read() as connection:
        return {table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in TABLES}


def restore(catalog: Catalog, contents: dict[Table, list[dict[str, object]]]) -> None:
    """Replace the catalogue's rows with those of a backup."""
    with catalog.write() as connection:
        for table in reversed(TABLES):
            connection.execute(delete(table))
        for table in TABLES:
            if contents[table]:
                connection.execute(insert(table), contents[table])
