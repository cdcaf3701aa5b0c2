"""The progress board: the current progress of an import, for the task's row and for Prefect's artifacts.

Steps write to memory; a thread publishes once a second. If publishing fails or hangs (Prefect is
away, the catalogue is busy), the import is not affected.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import httpx
import structlog
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from sqlalchemy.exc import SQLAlchemyError

from transship.catalog.engine import Catalog
from transship.catalog.tasks import report_end, report_progress
from transship.domain.clock import utc_now
from transship.domain.errors import CatalogUnavailable, human_size
from transship.domain.task import StoreProgress, TaskProgress, seconds_left, wait_text

PUBLISH_INTERVAL_S = 1.0
"""Frequent enough for people, rare enough for SQLite: one small write per second and import."""

LONGEST_NAME = 40
"""Most characters of an image's name in the key of an artifact."""

log = structlog.get_logger("transship.progress")


class ProgressBoard:
    """Progress of one attempt of one import.

    The progress of a task never goes back. An attempt that repeats work of an earlier one shows the progress of the
    earlier one until it has caught up; meanwhile its status line says what it does.

    Args:
        task_id: the catalogue's task; attempt: its attempt, so a stale process writes nothing.
        image_id: shown on the run's artifacts.
        targets: store ids to be written.
        earlier: the last progress of an earlier attempt of this task, if any.
        image_name: part of the keys of the run's artifacts; may be empty.
    """

    def __init__(
        self,
        catalog: Catalog,
        task_id: str,
        attempt: int,
        image_id: str,
        targets: tuple[str, ...],
        earlier: TaskProgress | None = None,
        image_name: str = "",
    ) -> None:
        self._catalog, self._task_id, self._attempt, self._image_id = catalog, task_id, attempt, image_id
        self._image_name = image_name
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._ended = False
        self._earlier = earlier
        self._phase_began, self._phase_from = time.monotonic(), 0.0
        known = {} if earlier is None else {entry.store: _waiting_again(entry) for entry in earlier.stores}
        stores = tuple(known.get(store, StoreProgress(store, "waiting")) for store in targets)
        self._progress = TaskProgress("begin", stores=stores, percent=0.0 if earlier is None else earlier.percent)
        self._store_began: dict[str, _Start] = {}
        self._hashing_began = 0.0
        self._published: tuple[TaskProgress, str] | None = None
        self._artifact: UUID | None = None

    def enter(self, phase: str, total_bytes: int = 0) -> None:
        """Begin a phase; a repeated phase continues from its former progress."""
        with self._lock:
            if phase == self._progress.phase:
                total = total_bytes or self._progress.total_bytes
                self._change(replace(self._progress, total_bytes=total, waits=""))
                return
            self._phase_began, self._phase_from = time.monotonic(), self._progress.percent / 100.0
            self._change(_phase_begun(self._progress, phase, total_bytes=total_bytes))

    def advance(self, done_bytes: int, total_bytes: int = 0) -> None:
        """Note how far the phase is; it never goes back."""
        with self._lock:
            done = max(done_bytes, self._progress.done_bytes)
            rate = _rate(done, self._phase_began)
            total = total_bytes or self._progress.total_bytes
            left_s = seconds_left(done, total, rate)
            moved = replace(self._progress, done_bytes=done, total_bytes=total, rate=rate, left_s=left_s)
            self._change(replace(moved, waits=""))

    def hashing(self, done_bytes: int, total_bytes: int) -> None:
        """Note how far the digests are, which are computed while copies are written; this never goes back."""
        with self._lock:
            if not self._progress.to_hash_bytes:
                self._hashing_began = time.monotonic()
            done = max(done_bytes, self._progress.hashed_bytes)
            rate = _rate(done, self._hashing_began)
            self._change(replace(self._progress, hashed_bytes=done, to_hash_bytes=total_bytes, hash_rate=rate))

    def wait_for(self, what: str, since: datetime, remedy: str) -> None:
        """Note what the import waits for until it continues, in the form of `wait_text`."""
        with self._lock:
            self._change(replace(self._progress, waits=wait_text(what, since, remedy)))

    def go_on(self) -> None:
        """Note that the import no longer waits."""
        with self._lock:
            self._change(replace(self._progress, waits=""))

    def store(
        self, store: str, phase: str, done_bytes: int = 0, total_bytes: int = 0, error: str = "", waits: str = ""
    ) -> None:
        """Note the progress of one store; its bytes never go back, not even when it is retried."""
        with self._lock:
            entries = tuple(
                replace(_moved(entry, phase, done_bytes, total_bytes, error, self._start_of(entry)), waits=waits)
                if entry.store == store
                else entry
                for entry in self._progress.stores
            )
            self._change(replace(self._progress, stores=entries, waits=""))

    def _start_of(self, entry: StoreProgress) -> _Start:
        return self._store_began.setdefault(entry.store, _Start(time.monotonic(), entry.done_bytes))

    def _change(self, progress: TaskProgress) -> None:
        """Replace the progress; the caller holds the lock."""
        progress = _last_phase(progress)
        percent = max(progress.percent, round(100.0 * overall(progress, self._phase_from), 1))
        self._progress = replace(progress, percent=percent)
        if self._earlier is not None and _how_much(self._progress) >= _how_much(self._earlier):
            self._earlier = None

    def fail_rest(self, holding: Collection[str]) -> None:
        """Mark the remaining stores as failed too, because the whole import failed.

        Args:
            holding: stores that have the image all the same.
        """
        for entry in self.now.stores:
            if not entry.error and entry.store not in holding:
                self.store(entry.store, "taken back" if entry.phase == "done" else "not written")

    def at_end(self) -> TaskProgress:
        """Return what the task shows once the import has succeeded; the board stays as it is, for that may fail."""
        with self._lock:
            return replace(_phase_begun(self._progress, "done"), percent=100.0)

    @property
    def now(self) -> TaskProgress:
        """The current progress as the task shows it."""
        return self._shown()[0]

    @property
    def line(self) -> str:
        """The current progress in one line, for display."""
        return self._shown()[1]

    def _shown(self) -> tuple[TaskProgress, str]:
        with self._lock:
            now, earlier = self._progress, self._earlier
        if earlier is None:
            return now, describe(now)
        furthest = replace(earlier, rate=0, left_s=None, stores=now.stores, percent=now.percent, waits=now.waits)
        return furthest, f"resuming; {describe(now)}"

    def publish_until(self, closed: threading.Event) -> None:
        """Publish changes once a second until told to end; runs in a thread of its own."""
        while not closed.wait(PUBLISH_INTERVAL_S):
            shown = self._shown()
            if shown == self._published:
                continue
            self._published = shown
            self._write_row(*shown)
            with self._publishing:
                # The end may have been published meanwhile; nothing may follow it.
                if not self._ended:
                    self._write_artifact(*shown)

    def _write_row(self, progress: TaskProgress, text: str) -> None:
        try:
            with self._catalog.statement() as connection:
                report_progress(connection, self._task_id, self._attempt, text, progress, utc_now())
        except (SQLAlchemyError, CatalogUnavailable) as error:
            log.warning("progress not written", error=str(error))

    def keep_end(self) -> None:
        """Show on the task how all stands when the import has failed; a failure is logged, never raised."""
        try:
            with self._catalog.statement() as connection:
                report_end(connection, self._task_id, self._attempt, self.now)
        except (SQLAlchemyError, CatalogUnavailable) as error:
            log.warning("last progress not written", error=str(error))

    def _write_artifact(self, progress: TaskProgress, text: str) -> None:
        if not _in_a_flow_run():
            return
        try:
            if self._artifact is None:
                key = artifact_key("progress", self._image_name, self._image_id)
                created = create_progress_artifact(progress=progress.percent, key=key, description=text)
                self._artifact = created if isinstance(created, UUID) else None
            else:
                update_progress_artifact(artifact_id=self._artifact, progress=progress.percent, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("progress artifact not written", error=str(error))

    def write_end(self) -> None:
        """Publish in Prefect how each store ended; a failure is logged, never raised.

        The text is short because the cards of artifacts are; the run's state has the reason.
        """
        if not _in_a_flow_run():
            return
        now = self.now
        written = sum(1 for store in now.stores if store.phase == "done")
        text = f"{written} of {len(now.stores)} stores hold the image"
        with self._publishing:
            self._ended = True
            self._write_artifact(now, text)
        rows = [
            {
                "store": store.store,
                "state": store.phase,
                "size": human_size(store.total_bytes) if store.total_bytes else "",
                "rate": f"{human_size(store.rate)}/s" if store.rate else "",
                "reason": store.error,
            }
            for store in now.stores
        ]
        key = artifact_key("stores", self._image_name, self._image_id)
        try:
            create_table_artifact(table=rows, key=key, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("store table not written", error=str(error))


def artifact_key(kind: str, image_name: str, image_id: str) -> str:
    """Return the key of an artifact that people can tell apart, in the characters that Prefect allows."""
    plain = re.sub("[^a-z0-9]+", "-", image_name.lower())[:LONGEST_NAME].strip("-")
    return re.sub("[^a-z0-9]+", "-", f"{kind}-{plain}-{image_id[:8]}".lower())


def _phase_begun(progress: TaskProgress, phase: str, total_bytes: int = 0) -> TaskProgress:
    return replace(progress, phase=phase, done_bytes=0, total_bytes=total_bytes, rate=0, left_s=None, waits="")


def _in_a_flow_run() -> bool:
    # Artifacts belong to a run. Outside of a run Prefect may not be configured: its client would raise
    # ValueError, or start a server in this process.
    return FlowRunContext.get() is not None


def _rate(done_bytes: int, began: float) -> int:
    return int(done_bytes / max(time.monotonic() - began, 0.001))


@dataclass(frozen=True, slots=True)
class _Start:
    """When this attempt began to write a store (monotonic clock, in seconds), and the bytes done before."""

    began: float
    done_bytes: int


def _waiting_again(entry: StoreProgress) -> StoreProgress:
    """Return the progress of a store when an import is resumed: bytes never go back, finished copies stay finished."""
    phase = entry.phase if entry.phase == "done" else "waiting"
    return replace(entry, phase=phase, error="", rate=0, left_s=None, waits="")


def _how_much(progress: TaskProgress) -> tuple[float, int]:
    # While a total is unknown the share does not change, so the bytes are compared too.
    return overall(progress), progress.done_bytes


def _moved(
    entry: StoreProgress, phase: str, done_bytes: int, total_bytes: int, error: str, start: _Start
) -> StoreProgress:
    done, total = max(done_bytes, entry.done_bytes), total_bytes or entry.total_bytes
    copying = phase == "uploading"
    rate = _rate(done - start.done_bytes, start.began) if copying or not entry.rate else entry.rate
    left_s = seconds_left(done, total, rate) if copying else None
    return StoreProgress(entry.store, phase, done, total, error, rate, left_s)


def _last_phase(progress: TaskProgress) -> TaskProgress:
    """Return the progress with its last phase and its bytes: the digest, if no copy moves bytes."""
    if progress.phase not in COPYING:
        return progress
    hashing = progress.hashed_bytes < progress.to_hash_bytes
    if hashing and all(store.phase in SETTLED or _being_linked(store) for store in progress.stores):
        done, total, rate = progress.hashed_bytes, progress.to_hash_bytes, progress.hash_rate
        left_s = seconds_left(done, total, rate)
        return replace(progress, phase="digest", done_bytes=done, total_bytes=total, rate=rate, left_s=left_s)
    done = sum(store.done_bytes for store in progress.stores) // max(1, len(progress.stores))
    return replace(progress, phase="place", done_bytes=done, rate=0, left_s=None)


def _being_linked(store: StoreProgress) -> bool:
    return store.phase == "uploading" and not store.done_bytes and not store.waits


def describe(progress: TaskProgress) -> str:
    """Describe the progress in one line: what the import waits for, or phase, share, bytes, rate and time left.

    While copies are written, the line counts the stores, and shows the progress of each store and of the digests.
    """
    if progress.waits:
        return f"{progress.phase}: {progress.waits}"
    share = _share(progress.done_bytes, progress.total_bytes) if progress.total_bytes else ""
    if progress.phase == "place":
        done = sum(1 for store in progress.stores if store.phase == "done")
        copying = [f"{store.store} {_copying(store)}" for store in progress.stores if _copying(store)]
        hashed = _share(progress.hashed_bytes, progress.to_hash_bytes)
        hashing = [f"digest {hashed}"] if progress.hashed_bytes < progress.to_hash_bytes else []
        written = f"{done} of {len(progress.stores)} stores written"
        return f"place: {share and f'{share}, '}{'; '.join((written, *copying, *hashing))}"
    if not progress.done_bytes:
        return f"{progress.phase}: {share}" if share else progress.phase
    return f"{progress.phase}: {share and f'{share}, '}{_how_far(progress)}"


def _copying(store: StoreProgress) -> str:
    if store.waits:
        return store.waits
    if store.phase == VERIFYING:
        return VERIFYING
    return _how_far(store) if store.phase == "uploading" and store.rate else ""


def _share(done_bytes: int, total_bytes: int) -> str:
    return f"{min(100, 100 * done_bytes // max(1, total_bytes))} %"


def _how_far(progress: TaskProgress | StoreProgress) -> str:
    total = f" of {human_size(progress.total_bytes)}" if progress.total_bytes else ""
    left = f", {progress.left_s} s left" if progress.left_s else ""
    return f"{human_size(progress.done_bytes)}{total} ({human_size(progress.rate)}/s{left})"


COPYING = ("place", "digest")
"""The last phases: copies are written and digests computed at the same time."""
VERIFYING = "verifying"
"""Phase of a store whose copy is being read back."""
SETTLED = ("done", "failed")
"""Phases of a store whose copy has ended."""

COPIES_FROM = 0.8
"""Where the last phases begin on the progress bar."""

PHASE_SHARES = {
    "begin": (0.0, 0.0),
    "validate-uri": (0.0, 0.0),
    "read-remote": (0.0, 0.0),
    "stage": (0.0, 0.6),
    "verify-source": (0.6, 0.62),
    "inspect": (0.6, 0.65),
    **dict.fromkeys(COPYING, (COPIES_FROM, 1.0)),
    "done": (1.0, 1.0),
}
"""Start and end of each phase on the progress bar; plugins are between inspection and stores."""
PLUGIN_SHARE = (0.65, 0.75)


def overall(progress: TaskProgress, begun_at: float = 0.0) -> float:
    """Return the share of the whole import that is done, from 0 to 1; an estimate.

    Args:
        begun_at: the share when the phase began. A plugin or inspection that begins later than usual, because others
            came before it, takes half of what is left before the copies.
    """
    begins, ends = PHASE_SHARES.get(progress.phase, PLUGIN_SHARE)
    if PHASE_SHARES["stage"][1] <= begins < begun_at < COPIES_FROM:
        begins, ends = begun_at, (begun_at + COPIES_FROM) / 2
    if progress.phase in COPYING:
        # Every store counts from the start; otherwise a late one would move the bar back.
        totals = progress.total_bytes * len(progress.stores) + progress.to_hash_bytes
        done = sum(store.done_bytes for store in progress.stores) + progress.hashed_bytes
    else:
        totals, done = progress.total_bytes, progress.done_bytes
    return begins + (ends - begins) * (min(1.0, done / totals) if totals else 0.0)
