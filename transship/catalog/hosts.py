"""Which hosts serve their staging: written by the keeper, asked before work is sent to one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from transship.catalog.journal import staged_upload
from transship.catalog.locks import add_or_replace
from transship.catalog.schema import HOSTS, STAGED
from transship.domain.errors import HostGone


def hosts_with_data(connection: Connection) -> frozenset[str]:
    """Return the names of all hosts that the keeper knows or that have files on staging."""
    known = connection.execute(select(HOSTS.c.name)).scalars()
    staging = connection.execute(select(STAGED.c.host).distinct()).scalars()
    return frozenset([*known, *staging])


def live_hosts(connection: Connection) -> frozenset[str]:
    """Return the names of the hosts whose worker answers."""
    return frozenset(connection.execute(select(HOSTS.c.name).where(HOSTS.c.alive.is_(True))).scalars())


def note_host(connection: Connection, name: str, heard_at: datetime | None, *, alive: bool) -> None:
    """Write whether a host's worker answers.

    Args:
        heard_at: the last time that it did; None when it never did.
    """
    add_or_replace(connection, HOSTS, "name", {"name": name, "alive": alive, "heard_at": heard_at})


def is_gone(connection: Connection, name: str) -> bool:
    """Return whether a host is known not to answer; one that nobody knows of yet may."""
    return connection.execute(select(HOSTS.c.alive).where(HOSTS.c.name == name)).scalar_one_or_none() is False


def refuse_unless_served(connection: Connection, image_id: str) -> None:
    """Refuse an import of uploaded data that no worker can reach.

    Raises:
        UploadIncomplete: there are no such data.
        HostGone: they lie on a host whose worker does not run.
    """
    host = staged_upload(connection, image_id).host
    if is_gone(connection, host):
        raise HostGone(image_id, host)
