"""The keepers' lease, which decides which of several keepers is active."""

from __future__ import annotations

from sqlalchemy import update

from transship.catalog.engine import Catalog
from transship.catalog.locks import add_unless_there
from transship.catalog.schema import KEEPERS
from transship.catalog.types import in_seconds


def stay_active(catalog: Catalog, owner: str, ttl_s: float) -> bool:
    """Take or renew the keepers' lease; return whether this keeper is active."""
    free_or_own = (KEEPERS.c.owner == owner) | (KEEPERS.c.expires_at < in_seconds(0))
    values = {"owner": owner, "expires_at": in_seconds(ttl_s)}
    with catalog.statement() as connection:
        if connection.execute(update(KEEPERS).where(KEEPERS.c.id == 1, free_or_own).values(values)).rowcount:
            return True
    with catalog.statement() as connection:
        return add_unless_there(connection, KEEPERS, "id", {"id": 1, **values})


def step_down(catalog: Catalog, owner: str) -> None:
    """Release the keepers' lease, so another keeper becomes active at once."""
    with catalog.statement() as connection:
        connection.execute(update(KEEPERS).where(KEEPERS.c.owner == owner).values(expires_at=in_seconds(-1.0)))
