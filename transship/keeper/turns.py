"""Decides which imports are dispatched to Prefect next, and explains what the others wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from transship.catalog.hosts import Host, hosts
from transship.catalog.outbox import OutboxKind, OutboxRow, due
from transship.catalog.unfinished_imports import (
    count_dispatched,
    note_waits,
    pending_imports,
    running_imports,
)
from transship.domain.clock import utc_now
from transship.domain.errors import PrefectAway, PrefectRefused
from transship.domain.turns import Waiting, next_turns, project_share
from transship.keeper.keeper import Keeper
from transship.keeper.waits import Situation, explain

DEFAULT_QUEUE: Final = "default"
BATCH_ROWS: Final = 20
"""Outbox rows that are sent before the other duties run again."""
UNBEGUN_FORGOTTEN_S: Final = 60.0
"""After this time a dispatched import that no worker has begun no longer counts as about to begin."""
UNEXPLAINED_S: Final = 2.0
"""Imports that have waited for less than this are about to begin and need no explanation."""


def host_queue(host: str) -> str:
    """Return the name of the work queue whose runs only this host takes."""
    return f"host-{host}"


def rows_in_turn(keeper: Keeper) -> list[OutboxRow]:
    """Return the rows to send now: rows other than imports first, then the imports whose turn it is."""
    with keeper.catalog.read() as connection:
        rows = due(connection, BATCH_ROWS, keeper.settings.imports.dispatch_ahead)
        imports = {row.id: row for row in rows if row.kind is OutboxKind.DISPATCH}
        waiting = [Waiting(row.id, row.project) for row in imports.values()]
        turns = _turns(keeper, connection, waiting) if waiting else ()
    return [*(row for row in rows if row.id not in imports), *(imports[key] for key in turns)]


def _turns(keeper: Keeper, connection: Connection, waiting: Sequence[Waiting]) -> tuple[int, ...]:
    """Return the outbox rows of the imports whose turn it is, in order."""
    limits = keeper.settings.imports
    known = hosts(connection)
    dispatched = count_dispatched(connection, UNBEGUN_FORGOTTEN_S, [host.name for host in known if host.alive])
    room = max(0, limits.dispatch_ahead - dispatched.unbegun)
    return next_turns(waiting, dispatched.by_project, room=room, limit_per_project=project_limit(keeper, known))


def project_limit(keeper: Keeper, known: Sequence[Host]) -> int:
    """Return how many running imports one project may have; 0: no limit."""
    slots = sum(host.slots for host in known if host.alive) or keeper.settings.prefect.worker_limit
    pool = keeper.prefect.known_pool
    if pool is not None and pool.limit is not None:
        slots = min(slots, pool.limit)
    projects_known = keeper.settings.api.auth != "none"
    return project_share(slots, keeper.settings.imports.max_per_project, projects_known=projects_known)


def refresh_pool(keeper: Keeper) -> None:
    """Read the work pool's limit, which caps the worker slots that projects share."""
    keeper.prefect.pool(keeper.settings.prefect.work_pool)


def explain_waits(keeper: Keeper) -> int:
    """Write on each import that no worker has begun what it waits for; return how many there are.

    This also works when Prefect does not answer, which is one of the reasons to wait.
    """
    with keeper.catalog.read() as connection:
        waiting = pending_imports(connection, UNEXPLAINED_S)
        if not waiting:
            return 0
        known, running = hosts(connection), running_imports(connection)
    pool_name, pool, away = keeper.settings.prefect.work_pool, None, ""
    try:
        pool = keeper.prefect.pool(pool_name)
    except (PrefectAway, PrefectRefused) as fault:
        away = str(fault)
    now = Situation(away, pool, pool_name, known, running, project_limit(keeper, known))
    explained = [(wait, explain(wait, host_queue(wait.host) if wait.host else DEFAULT_QUEUE, now)) for wait in waiting]
    note_waits(keeper.catalog, explained, utc_now())
    return len(waiting)
