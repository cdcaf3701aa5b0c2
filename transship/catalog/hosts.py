"""Which hosts are alive: each worker updates its host's row, and all compare it with the catalogue's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, exists, func, select, union

from transship.catalog.journal import staged_upload, uploaded
from transship.catalog.leases import owned_by_host
from transship.catalog.locks import add_or_replace
from transship.catalog.schema import HOSTS, IMAGES, LEASES, STAGED
from transship.catalog.types import in_seconds, seconds_since
from transship.domain.errors import HostGone

HEARD_EVERY_S: Final = 10.0
"""Seconds between heartbeats of a worker."""
SILENCE_S: Final = 90.0
"""Seconds without a heartbeat after which a host is gone; restarting its worker on a loaded machine takes less."""

FORGOTTEN_S: Final = 86400.0
"""Seconds for which a silent host stays listed: one day, for hosts that were taken out of service on purpose."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the catalogue knows it.

    Attributes:
        heard_at: its last heartbeat, UTC; None if there was none.
        alive: it had a heartbeat within `SILENCE_S`, or one of its processes holds a live lease.
        slots: imports that its worker can run at the same time; 0 if it never had a worker.
        staged: images whose uploaded data wait there to be imported.
    """

    name: str
    heard_at: datetime | None
    alive: bool
    slots: int
    staged: int = 0


def hosts(connection: Connection) -> tuple[Host, ...]:
    """Return all hosts that had a worker or hold uploaded data, by name."""
    held = select(STAGED.c.host).join(IMAGES, IMAGES.c.id == STAGED.c.image_id).where(uploaded())
    names = union(select(HOSTS.c.name.label("name")), held).subquery()
    images = held.with_only_columns(func.count()).where(STAGED.c.host == names.c.name).correlate(names)
    live = (LEASES.c.state == "held") & (LEASES.c.expires_at >= in_seconds(0))
    rows = connection.execute(
        select(
            names.c.name,
            HOSTS.c.heard_at,
            HOSTS.c.slots,
            (seconds_since(HOSTS.c.heard_at) < SILENCE_S).label("heard"),
            exists().where(live, owned_by_host(names.c.name)).label("busy"),
            images.scalar_subquery().label("staged"),
        ).outerjoin(HOSTS, HOSTS.c.name == names.c.name)
    )
    found = (Host(row.name, row.heard_at, bool(row.heard or row.busy), row.slots or 0, row.staged) for row in rows)
    return tuple(sorted(found, key=lambda host: host.name))


def live_hosts(connection: Connection) -> frozenset[str]:
    """Return the names of the hosts that are alive."""
    return frozenset(host.name for host in hosts(connection) if host.alive)


def note_host(connection: Connection, name: str, slots: int, *, heard_s_ago: float = 0.0) -> None:
    """Record a heartbeat of a host's worker.

    Args:
        slots: imports that it can run at the same time.
        heard_s_ago: seconds since the heartbeat.
    """
    values = {"name": name, "slots": slots, "heard_at": in_seconds(-heard_s_ago)}
    add_or_replace(connection, HOSTS, "name", values)


def expect_host(connection: Connection, name: str) -> None:
    """Record a heartbeat of a host that receives an upload but never had a worker, because one may be starting."""
    row = connection.execute(select(HOSTS.c.slots).where(HOSTS.c.name == name)).first()
    if row is None or row.slots == 0:
        note_host(connection, name, 0)


def forget_hosts(connection: Connection) -> None:
    """Forget hosts that were silent for `FORGOTTEN_S` and have no files in staging."""
    holding = select(STAGED.c.host)
    old = (HOSTS.c.heard_at < in_seconds(-FORGOTTEN_S)) & HOSTS.c.name.not_in(holding)
    connection.execute(delete(HOSTS).where(old))


def is_gone(connection: Connection, name: str) -> bool:
    """Return whether a host is gone: it had no heartbeat for `SILENCE_S`, and holds no live lease."""
    return name not in live_hosts(connection)


def refuse_unless_served(connection: Connection, image_id: str) -> None:
    """Refuse an import of uploaded data that no worker can reach.

    Raises:
        UploadIncomplete: there are none.
        HostGone: they are on a host whose worker does not run.
    """
    host = staged_upload(connection, image_id).host
    if is_gone(connection, host):
        raise HostGone(image_id, host)
