"""Which hosts serve their staging: each worker writes its host's row, everybody judges by the catalogue's clock."""

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
"""Seconds between two signs of life of a worker."""
SILENCE_S: Final = 90.0
"""A host that was silent for so long is gone; a restart of its worker on a loaded machine takes less."""

FORGOTTEN_S: Final = 86400.0
"""A host that was taken out of service on purpose is listed for a day."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the catalogue knows it.

    Attributes:
        heard_at: its last sign of life, UTC; None if there was never one.
        alive: heard within `SILENCE_S`, or a process of it holds a live lease.
        slots: imports that its worker carries at the same time; 0 if it never had a worker.
        staged: images whose uploaded data wait there to be imported.
    """

    name: str
    heard_at: datetime | None
    alive: bool
    slots: int
    staged: int = 0


def hosts(connection: Connection) -> tuple[Host, ...]:
    """Return all hosts that ever had a worker or hold uploaded data, by name."""
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
    """Write a sign of life of a host's worker.

    Args:
        slots: imports that it carries at the same time.
        heard_s_ago: seconds since the sign.
    """
    values = {"name": name, "slots": slots, "heard_at": in_seconds(-heard_s_ago)}
    add_or_replace(connection, HOSTS, "name", values)


def expect_host(connection: Connection, name: str) -> None:
    """Count a host as heard that takes an upload and never had a worker: one may be about to start."""
    row = connection.execute(select(HOSTS.c.slots).where(HOSTS.c.name == name)).first()
    if row is None or row.slots == 0:
        note_host(connection, name, 0)


def forget_hosts(connection: Connection) -> None:
    """Forget the hosts that were silent for `FORGOTTEN_S` and hold nothing on their staging."""
    holding = select(STAGED.c.host)
    old = (HOSTS.c.heard_at < in_seconds(-FORGOTTEN_S)) & HOSTS.c.name.not_in(holding)
    connection.execute(delete(HOSTS).where(old))


def is_gone(connection: Connection, name: str) -> bool:
    """Return whether a host does not serve its staging: it was not heard for `SILENCE_S`, and holds no live lease."""
    return name not in live_hosts(connection)


def refuse_unless_served(connection: Connection, image_id: str) -> None:
    """Refuse an import of uploaded data that no worker can reach.

    Raises:
        UploadIncomplete: there are no such data.
        HostGone: they lie on a host whose worker does not run.
    """
    host = staged_upload(connection, image_id).host
    if is_gone(connection, host):
        raise HostGone(image_id, host)
