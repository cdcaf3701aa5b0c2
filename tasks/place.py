"""Write the sealed file to one store, and take it back."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from tasks.progress import ProgressBoard
from tasks.retrying import may_pass_next_time
from tasks.session import ImportSession, current
from tasks.staged_files import path_of
from tasks.store_slots import store_slot
from tasks.stores import using_store
from transship.domain.errors import ImportStopped, TransferFailed
from transship.domain.import_data import SealedFile
from transship.domain.outcome import Skipped
from transship.placing.placer import Placer


@task(name="place", task_run_name="place {store}", cache_policy=NO_CACHE, retry_condition_fn=may_pass_next_time)
def place(store: str, staged: SealedFile) -> str:
    """Write the image's data to one store and return the location URL; `Placer.place` says how.

    Args:
        store: store id.
        staged: final sealed file.

    Raises:
        TransferFailed: the store did not take it; the journal names what may be left in it.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    watch = _OnBoard(session.board, store, staged.size)
    try:
        placed = placer(session).place(store, staged, path_of(session, staged), watch)
    except ImportStopped:
        raise
    except TransferFailed as failed:
        session.board.store(store, "failed", error=str(failed))
        raise
    session.board.store(store, "done", staged.size, staged.size)
    if isinstance(placed, Skipped):
        # Prefect unwraps a returned state; its name tells people that nothing was written.
        return Completed(name="Skipped", message=placed.why, data=placed.value.url)  # type: ignore[return-value]  # see above
    return placed.value.url


def placer(session: ImportSession) -> Placer:
    """Return what writes and takes back the copies of this import."""
    return Placer(
        session.settings,
        session.catalog,
        session.lease,
        session.fence,
        session.stop,
        lambda store: using_store(store, session.settings, session.catalog),
        lambda store, stop, watch: store_slot(session.settings.imports, store, stop, watch),
    )


def unplace(session: ImportSession, store: str) -> None:
    """Remove a store's copy of the image; see `Placer.take_back`."""
    placer(session).take_back(store)


@dataclass(frozen=True, slots=True)
class _OnBoard:
    """Shows a copy on the import's progress board."""

    board: ProgressBoard
    store: str
    size: int

    def advance(self, done_bytes: int) -> None:
        self.board.store(self.store, "uploading", done_bytes, self.size)

    def wait(self, text: str) -> None:
        self.board.store(self.store, "waiting", waits=text)
