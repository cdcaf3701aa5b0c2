"""Write the sealed file to one store, and take it back."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.settings import get_current_settings

from tasks.progress import VERIFYING, ProgressBoard
from tasks.retrying import as_copies
from tasks.session import ImportSession, current
from tasks.staged_files import path_of
from tasks.steps import step
from tasks.stores import using_store
from transship.domain.errors import ConfigurationRefused, ImportStopped, TransferFailed
from transship.domain.import_data import Copy, Outcome, SealedFile
from transship.placing.placer import Placer
from transship.prefect_rest.client import PrefectRest
from transship.prefect_rest.slots import StoreSlots


@step("place", "place {store}", as_copies)
def place(store: str, file: SealedFile) -> Outcome[Copy]:
    """Write the image's data to one store; see `Placer.place`.

    Args:
        store: store id.
        file: the final data.

    Raises:
        TransferFailed: the copy failed; the journal names what may be left in the store.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    watch = _OnBoard(session.board, store, file.size)
    try:
        placed = placer(session).place(store, file, path_of(session, file), watch)
    except ImportStopped:
        raise
    except TransferFailed as failed:
        session.board.store(store, "failed", error=str(failed))
        raise
    session.board.store(store, "done", file.size, file.size)
    return placed


def placer(session: ImportSession) -> Placer:
    """Return the placer of this import."""
    return Placer(
        session.settings,
        session.catalog,
        session.lease,
        session.fence,
        session.stop,
        lambda store: using_store(store, session.settings, session.catalog),
        StoreSlots(session.settings.imports, _prefect).hold,
    )


def _prefect() -> PrefectRest:
    """Return a client for the Prefect server that the runs of this process belong to.

    Raises:
        ConfigurationRefused: no server is configured.
    """
    api = get_current_settings().api
    if api.url is None:
        raise ConfigurationRefused("environment", "PREFECT_API_URL", "is not set")
    return PrefectRest(api.url, api.auth_string.get_secret_value() if api.auth_string else "", tries_when_busy=4)


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

    def verify(self) -> None:
        self.board.store(self.store, VERIFYING, self.size, self.size)
