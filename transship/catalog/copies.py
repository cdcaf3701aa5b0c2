"""The copies of one import: which stores it is to write, and how far each of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, update

from transship.catalog.engine import Catalog
from transship.catalog.leases import Lease, prove_lease
from transship.catalog.schema import TARGETS


def open_targets(connection: Connection, image_id: str, task_id: str, targets: Sequence[str]) -> None:
    """Note the stores that a new import is to write, in order; what an earlier one noted goes."""
    connection.execute(delete(TARGETS).where(TARGETS.c.image_id == image_id))
    rows = [
        {"image_id": image_id, "store": store, "position": n, "task_id": task_id, "state": "waiting", "error": ""}
        for n, store in enumerate(targets)
    ]
    connection.execute(insert(TARGETS), rows)


def set_target(catalog: Catalog, lease: Lease, store: str, state: str, error: str = "") -> None:
    """Write how far the copy to one store is.

    Args:
        state: ``waiting``, ``uploading``, ``done`` or ``failed``.

    Raises:
        LockLost: another worker took over; nothing was written.
    """
    with catalog.write() as connection:
        prove_lease(connection, lease)
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.image_id == lease.image_id, TARGETS.c.store == store)
            .values(state=state, error=error)
        )


def end_targets(connection: Connection, image_id: str, failed: Mapping[str, str]) -> None:
    """Note which stores failed, and why."""
    for store, reason in failed.items():
        connection.execute(
            update(TARGETS)
            .where(TARGETS.c.image_id == image_id, TARGETS.c.store == store)
            .values(state="failed", error=reason)
        )
