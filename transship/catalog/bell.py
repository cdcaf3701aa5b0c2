"""Waking the keeper when a transaction that concerns it is committed.

On PostgreSQL the commit notifies every keeper that listens, on whichever host; on SQLite the doorbell of this machine
is rung after it. Either may be lost: the keeper looks by itself now and then.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress
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
        self._connection: Connection | None = None

    def open(self) -> bool:
        """Listen, unless this does already; return whether it does: the database may be away."""
        if self._connection is not None:
            return True
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # Given to this alone: nobody else may use a connection that listens.
            connection.detach()
            connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
        except SQLAlchemyError:
            return False
        self._connection = connection
        return True

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something arrives; it is open."""
        return int(self._driver().fileno())

    def heard(self) -> frozenset[Ring]:
        """Return what has arrived; a connection that is lost is closed, and opened again by `open`."""
        from psycopg import Error as DriverError  # noqa: PLC0415  # nothing that SQLite needs

        try:
            return frozenset(Ring(each) for notice in self._driver().notifies(timeout=0) for each in notice.payload)
        except DriverError:
            self.close()
            # Whatever was missed is found now.
            return frozenset(Ring)

    def close(self) -> None:
        """Listen no longer."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(SQLAlchemyError):
                connection.close()

    def _driver(self) -> Any:
        if self._connection is None:
            raise LookupError("not listening")
        return self._connection.connection.driver_connection
