"""Serializes concurrent writers in the same way on SQLite and PostgreSQL.

SQLite has one writer at a time, so nothing is needed there. On PostgreSQL writers of one image
lock its lease row; anything else is locked by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

ADVISORY_LOCK: Final = 7021973
"""An arbitrary number, the same in all processes, that no other application locks in this database."""


def lock_name(connection: Connection, name: str, *, for_long: bool = False) -> None:
    """Wait until nobody else holds a name, and hold it until this transaction ends.

    Args:
        for_long: the name may be held for minutes, while the transaction is idle: wait for it without a limit, and
            do not end the idle transaction.
    """
    if connection.dialect.name == "postgresql":
        if for_long:
            connection.exec_driver_sql("set local lock_timeout = 0")
            connection.exec_driver_sql("set local idle_in_transaction_session_timeout = 0")
        # Two names with the same hash wait for each other, which is harmless.
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK, func.hashtext(name))))


def add_unless_there(connection: Connection, table: Table, key: str, values: Mapping[str, object]) -> bool:
    """Insert a row unless one with that key exists or another transaction is adding it; return whether it did.

    Checking first is not enough on PostgreSQL: both transactions would see no row, and the second insert would fail.

    Args:
        key: the column that must be unique.
    """
    unless_there = insert_into(connection, table).values(values).on_conflict_do_nothing(index_elements=[key])
    # Not the row count, which PostgreSQL's driver does not report here.
    return connection.execute(unless_there.returning(table.c[key])).first() is not None


def add_or_replace(connection: Connection, table: Table, key: str, values: Mapping[str, object]) -> None:
    """Insert a row, or overwrite the values of the row with that key."""
    added = insert_into(connection, table).values(values)
    connection.execute(added.on_conflict_do_update(index_elements=[key], set_=values))


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that supports ``ON CONFLICT``."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
