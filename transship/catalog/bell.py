"""Waking the keeper when a transaction that concerns it is committed.

On PostgreSQL the commit notifies every keeper that listens, on whichever host; on SQLite the doorbell of this machine
is rung after it. Either may be lost: the keeper looks by itself now and then.
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
    """Why the keeper is woken; one letter, which is the whole message."""

    WORK = "w"
    """There is something to tell Prefect, or an import or upload has lost its process."""
    NEWS = "n"
    """There is something to send; an import may have begun or ended."""


def ring_keeper(connection: Connection, why: Ring) -> None:
    """Wake the keeper as soon as this transaction is committed."""
    connection.info.setdefault(_RUNG, set()).add(why)


def taken_rings(connection: Connection) -> AbstractSet[Ring]:
    """Return why a transaction wakes the keeper, and forget it."""
    rung: set[Ring] = connection.info.pop(_RUNG, set())
    return rung


def notify_keepers(connection: Connection, rings: AbstractSet[Ring]) -> None:
    """Have PostgreSQL notify the keepers that listen, when this transaction is committed."""
    connection.execute(select(func.pg_notify(_CHANNEL, "".join(sorted(rings)))))


class Listener:
    """Hears the notifications of a PostgreSQL catalogue, on a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None

    def open(self) -> bool:
        """Listen, unless this does already; return whether it does: the database may be away."""
        from psycopg import Error as DriverError  # noqa: PLC0415  # nothing that SQLite needs

        if self._connection is not None:
            return True
        try:
            pooled = self._engine.raw_connection()
            # Given to this alone: nobody else may use a connection that listens.
            self._connection = pooled.driver_connection
            pooled.detach()
            self._connection.autocommit = True
            self._connection.execute(f"LISTEN {_CHANNEL}")
        except (SQLAlchemyError, DriverError):
            self.close()
            return False
        return True

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something arrives; it is open."""
        return int(self._connection.fileno())

    def heard(self) -> frozenset[Ring]:
        """Return what has arrived; a connection that is lost is closed, and opened again by `open`."""
        from psycopg import Error as DriverError  # noqa: PLC0415  # nothing that SQLite needs

        try:
            return frozenset(Ring(each) for notice in self._connection.notifies(timeout=0) for each in notice.payload)
        except DriverError:
            self.close()
            # Whatever was missed is found now.
            return frozenset(Ring)

    def close(self) -> None:
        """Listen no longer."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
