"""Wakes the keeper when a transaction that concerns it is committed.

On PostgreSQL the commit notifies all listening keepers on all hosts; on SQLite this machine's doorbell is rung after
the commit. Either signal may be lost, so the keeper also checks regularly.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

_RUNG: Final = "transship rung"
_CHANNEL: Final = "transship_keeper"
"""Channel of PostgreSQL's LISTEN and NOTIFY."""


class Ring(StrEnum):
    """Why the keeper is woken; the letter is the whole message."""

    WORK = "w"
    """There is a message for Prefect, or an import or upload has lost its process."""
    NEWS = "n"
    """There is a notification to send; an import may have begun or ended."""


def ring_keeper(connection: Connection, why: Ring) -> None:
    """Wake the keeper as soon as this transaction is committed."""
    connection.info.setdefault(_RUNG, set()).add(why)


def taken_rings(connection: Connection) -> AbstractSet[Ring]:
    """Return and clear the reasons why a transaction wakes the keeper."""
    rung: set[Ring] = connection.info.pop(_RUNG, set())
    return rung


def notify_keepers(connection: Connection, rings: AbstractSet[Ring]) -> None:
    """Notify listening keepers through PostgreSQL when this transaction is committed."""
    connection.execute(select(func.pg_notify(_CHANNEL, "".join(sorted(rings)))))


class Listener:
    """Receives the notifications of a PostgreSQL catalogue on its own connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None

    def open(self) -> bool:
        """Start listening unless it already does; return False if the database does not answer."""
        from psycopg import Error as DriverError  # noqa: PLC0415  # nothing that SQLite needs

        if self._connection is not None:
            return True
        try:
            pooled = self._engine.raw_connection()
            # Taken out of the pool: no one else may use a connection that listens.
            self._connection = pooled.driver_connection
            pooled.detach()
            self._connection.autocommit = True
            self._connection.execute(f"LISTEN {_CHANNEL}")
        except (SQLAlchemyError, DriverError):
            self.close()
            return False
        return True

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a notification arrives; requires `open`."""
        return int(self._connection.fileno())

    def heard(self) -> frozenset[Ring]:
        """Return what has arrived; close a lost connection, which `open` replaces."""
        from psycopg import Error as DriverError  # noqa: PLC0415  # nothing that SQLite needs

        try:
            return frozenset(Ring(each) for notice in self._connection.notifies(timeout=0) for each in notice.payload)
        except DriverError:
            self.close()
            # Notifications may have been missed, so all reasons apply.
            return frozenset(Ring)

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
