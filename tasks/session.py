"""The import session: the resources that the Prefect tasks of one running import share in its process.

Prefect copies context variables into the threads of submitted tasks, so `current` works there
too. A separate thread renews the lease; when the lease is lost, the stop token tells every thread.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from tasks.progress import ProgressBoard
from transship.catalog.engine import Catalog
from transship.catalog.imports import Begun
from transship.catalog.leases import Lease, process_name, renew_lease
from transship.domain.clock import utc_now
from transship.domain.errors import CatalogUnavailable, ImportInterrupted, ImportTooLong, LockLost
from transship.domain.fence import Fence
from transship.domain.quota import ImportQuota
from transship.domain.stop import StopToken
from transship.staging.area import StagingArea

UNDO_S: Final = 600.0
"""Seconds that a stopped import may take to undo its work; then it counts as hung, and another process takes over."""

log = structlog.get_logger("transship.session")


@dataclass(slots=True)
class ImportSession:
    """The resources of one running import in this process. Its data travel in the values of its tasks.

    Attributes:
        lease: checked by every write.
        fence: checked before each irreversible step, and with each check of `stop`.
        quota: of the image's project, once it was read; None if the project has none.
    """

    settings: Settings
    catalog: Catalog
    staging: StagingArea
    lease: Lease
    fence: Fence
    stop: StopToken
    board: ProgressBoard
    quota: ImportQuota | None = None


_CURRENT: ContextVar[ImportSession] = ContextVar("import_session")


def current() -> ImportSession:
    """Return the session of the import that this thread works for.

    Raises:
        LookupError: called outside of an import; a programming error.
    """
    return _CURRENT.get()


def process_owner(settings: Settings) -> str:
    """Return this process's owner name in leases: host, process id, nonce."""
    return f"{process_name(settings.host_name, os.getpid())} {uuid4().hex[:8]}"


@contextmanager
def open_session(settings: Settings, catalog: Catalog, begun: Begun) -> Iterator[ImportSession]:
    """Make an import the current one, and keep its lease and its published progress fresh until the block ends."""
    staging = StagingArea.of(settings)
    fence = Fence(lambda: renew_lease(catalog, begun.lease, settings.lease.ttl_s), settings.lease.ttl_s)
    stop = StopToken(fence.check)
    board = _board(catalog, begun)
    session = ImportSession(settings, catalog, staging, begun.lease, fence, stop, board)
    closed = threading.Event()
    beat = _thread("lease", lambda: _keep_lease(session, closed))
    publish = _thread("progress", lambda: board.publish_until(closed))
    token = _CURRENT.set(session)
    structlog.contextvars.bind_contextvars(image_id=begun.image.id, task_id=begun.task.id)
    beat.start()
    publish.start()
    try:
        yield session
    finally:
        closed.set()
        beat.join()
        structlog.contextvars.unbind_contextvars("image_id", "task_id")
        _CURRENT.reset(token)


def _board(catalog: Catalog, begun: Begun) -> ProgressBoard:
    # A resumed task has progress already; a task opened by a rerun has none.
    task = begun.task
    image = begun.image
    board = ProgressBoard(catalog, task.id, task.attempt, image.id, begun.targets, task.progress, image.name or "")
    for location in image.locations:
        board.store(location.store, "done", location.size, location.size)
    return board


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    # Artifacts find their flow run through Prefect's context variables.
    context = contextvars.copy_context()
    return threading.Thread(target=context.run, args=(target,), name=f"transship-{name}", daemon=True)


def _keep_lease(session: ImportSession, closed: threading.Event) -> None:
    settings = session.settings.lease
    failing_since: float | None = None
    began = time.monotonic()
    while not closed.wait(settings.renew_s):
        if not _in_time(session, time.monotonic() - began):
            return
        try:
            session.fence.renew()
            failing_since = None
        except LockLost as lost:
            session.stop.stop(lost)
            return
        except (SQLAlchemyError, CatalogUnavailable) as error:
            now = utc_now().timestamp()
            failing_since = failing_since or now
            log.warning("lease not renewed", error=str(error))
            if now - failing_since > settings.ttl_s:
                session.stop.stop(ImportInterrupted("the catalogue could not be reached to renew the lease"))
                return


def _in_time(session: ImportSession, ran_s: float) -> bool:
    """Stop an import that runs for too long; return False if it did not end, so its lease may be lost."""
    limit_s = session.settings.imports.timeout_s
    if ran_s <= limit_s:
        return True
    session.stop.stop(ImportTooLong(limit_s, session.board.line))
    if ran_s <= limit_s + UNDO_S:
        return True
    log.error("import did not end in time; lease no longer renewed", ran_s=round(ran_s))
    return False
