"""Waking the keeper when a transaction that concerns it is committed.

On PostgreSQL the commit itself notifies every keeper that listens; the doorbell of this machine is rung on either
database. Both may be lost: the keeper looks by itself now and then.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

CHANNEL: Final = "transship_keeper"
"""Channel of PostgreSQL's LISTEN and NOTIFY."""
_RUNG: Final = "transship rung"


def ring_keeper(connection: Connection) -> None:
    """Have the keeper look as soon as this transaction is committed."""
    connection.info[_RUNG] = True


def was_rung(connection: Connection) -> bool:
    """Return whether a transaction rang, and forget it."""
    return bool(connection.info.pop(_RUNG, False))


def notify_keepers(connection: Connection) -> None:
    """Notify the keepers that listen, when this transaction is committed."""
    connection.execute(select(func.pg_notify(CHANNEL, "")))
