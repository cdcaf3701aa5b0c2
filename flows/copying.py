"""Copies one file to all its stores, in order and several at a time, and shows copies when they are verified.

If all stores must succeed, no copy is shown before all are written. Otherwise each copy is shown as
soon as it is written and the digests are known; the first one makes the image active.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from prefect.futures import PrefectFuture, as_completed, wait

from tasks.check_quota import check_size
from tasks.digest import digest
from tasks.fetch import drop, fetch
from tasks.finish import finish, prove, show
from tasks.place import place, unplace
from tasks.session import ImportSession, current
from transship.catalog.copies import copy_failed, prepare_copies, withdraw_copies
from transship.catalog.imports import Begun
from transship.domain.clock import utc_now
from transship.domain.errors import (
    CopyDiffers,
    ImportCancelled,
    ImportStopped,
    StagingUnusable,
    StoresFailed,
    StoresUnavailable,
    TransferFailed,
)
from transship.domain.import_data import Copies, Copy, Digests, FinalData
from transship.domain.notification import upload_failure

STOP_TIMEOUT_S = 20.0
"""Seconds to wait for copies that were told to stop; they check the stop token every 16 MiB."""

log = structlog.get_logger("transship.flow")


def copy_from_best(begun: Begun, undo: ExitStack) -> str:
    """Copy an image that has its data to the targets that lack it; return one line for display.

    A source whose bytes differ from the image's is skipped for the next one. An object that the targets could not copy
    themselves is read instead.

    Raises:
        TransferFailed: the copies failed; the caller undoes what was pushed on ``undo``.
        LockLost, ImportStopped: the import must end.
    """
    session = current()
    refused: dict[str, str] = {}
    while True:
        final = fetch(begun, refused)
        try:
            copies = place_all(begun, final, undo)
        except (CopyDiffers, StagingUnusable) as useless:
            origin = final.file.url or final.file.store or final.file.name
            refused[origin] = str(useless)
            log.warning("source not usable", origin=origin, reason=str(useless))
            undo.close()
            withdraw_copies(session.catalog, session.lease)
            drop(session, final.file)
        else:
            return finish(begun, final, copies)


def place_all(begun: Begun, final: FinalData, undo: ExitStack) -> Copies:
    """Write a file to every target that lacks it, and compute its digests at the same time.

    Args:
        undo: removes what was written if the import fails.

    Raises:
        ProjectOverQuota: the project may not store the file that often; nothing was written.
        StoresFailed: a store that had to succeed failed, or every store that could make the image active failed.
        CopyDiffers, StagingUnusable: the file differs from the image in the catalogue, or cannot be read.
        LockLost, ImportStopped: the import must end.
    """
    check_size(current(), final.file.size)
    delivery = _Delivery(current(), begun, final, undo)
    digests = delivery.run()
    # In the requested order, not in the order of their ends.
    failed = {store: delivery.failed[store] for store in begun.targets if store in delivery.failed}
    if failed and not delivery.written and not begun.has_data:
        raise stores_failed(failed)
    reasons = {store: str(error) for store, error in failed.items()}
    return Copies(digests, tuple(delivery.written), reasons)


@dataclass(slots=True)
class _Delivery:
    """The running copies of one file.

    Attributes:
        written: stores that hold the file; failed: why others do not.
        hidden: written copies that may be shown as soon as the digests are known.
    """

    session: ImportSession
    begun: Begun
    final: FinalData
    undo: ExitStack
    written: list[Copy] = field(default_factory=list)
    failed: dict[str, TransferFailed] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    running: dict[PrefectFuture[Copy], str] = field(default_factory=dict)

    def run(self) -> Digests:
        """Copy to all targets; return the file's verified digests."""
        session = self.session
        session.board.enter("place", self.final.file.size)
        hashing: PrefectFuture[Digests] = digest.submit(self.final)
        try:
            self._copy(hashing)
            return self._proven(hashing)
        except StoresFailed:
            self._stop_the_others(hashing)
            raise
        except (CopyDiffers, StagingUnusable):
            # Another file may work, so the stop token must not be used; these copies end normally and are undone.
            self._wait_for_all(hashing, None)
            raise
        except BaseException:
            # Only this thread receives the signal; the token passes it on to the copying threads.
            session.stop.stop(ImportCancelled("the process was told to end"))
            self._wait_for_all(hashing)
            raise

    def _copy(self, hashing: PrefectFuture[Digests]) -> None:
        session = self.session
        at_once = session.settings.imports.max_parallel_stores
        waiting = deque(self.begun.to_write)
        if at_once > 1:
            self._prepare(list(waiting))
        watched = True
        while waiting or self.running:
            while waiting and len(self.running) < at_once:
                self._begin(waiting.popleft(), prepared=at_once > 1)
            pending: list[PrefectFuture[Any]] = [*self.running, *([hashing] if watched else [])]
            ended = next(iter(as_completed(pending)))
            if ended is hashing:
                watched = False
                self._proven(hashing)
            else:
                self._note(ended)
            if self.failed and self.begun.strict:
                raise stores_failed(self.failed)
            # One at a time, each copy is shown before the next begins.
            if self.hidden and (not watched or at_once == 1):
                self._show(self._proven(hashing))

    def _prepare(self, stores: Sequence[str]) -> None:
        prepare_copies(self.session.catalog, self.session.lease, stores, utc_now())

    def _begin(self, store: str, *, prepared: bool) -> None:
        if not prepared:
            self._prepare([store])
        # By then clients may see the copy; if so, it is kept.
        self.undo.callback(unplace, self.session, store)
        self.running[place.submit(store, self.final.file)] = store

    def _note(self, ended: PrefectFuture[Copy]) -> None:
        """Record the end of one copy.

        Raises:
            BaseException: an error that ends the whole import.
        """
        store = self.running.pop(ended)
        failure = failure_of(ended)
        if failure is None:
            self.written.append(ended.result())
            if not self.begun.strict:
                self.hidden.append(store)
            return
        if isinstance(failure, (CopyDiffers, StagingUnusable)):
            raise failure  # not a fault of the store: every other copy would fail in the same way
        log.warning("store not written", store=store, reason=str(failure))
        self.failed[store] = failure
        clean_up(lambda: unplace(self.session, store))
        lease = self.session.lease
        notice = upload_failure(lease.image_id, failure)
        copy_failed(self.session.catalog, lease, store, str(failure), utc_now(), notice=notice)

    def _show(self, digests: Digests) -> None:
        stores, self.hidden = self.hidden, []
        show(self.session, self.begun, self.final, digests, stores)

    def _proven(self, hashing: PrefectFuture[Digests]) -> Digests:
        digests = hashing.result()
        prove(self.begun, self.final, digests)
        return digests

    def _stop_the_others(self, hashing: PrefectFuture[Digests]) -> None:
        """Stop copies that are no longer needed.

        Raises:
            BaseException: one of them hit an error that ends the whole import.
        """
        failed = ", ".join(self.failed)
        self.session.stop.stop(ImportCancelled(f"store {failed} failed, and all had to succeed"))
        ended = self._wait_for_all(hashing)
        for copy in [copy for copy in self.running if copy in ended]:
            log.info("copy stopped", store=self.running[copy])
            with suppress(ImportStopped):
                failure_of(copy)

    def _wait_for_all(
        self, hashing: PrefectFuture[Digests], timeout_s: float | None = STOP_TIMEOUT_S
    ) -> set[PrefectFuture[Any]]:
        """Wait for the running copies and the digests, and return those that ended in time."""
        running: list[PrefectFuture[Any]] = [*self.running, hashing]
        return wait(running, timeout=timeout_s).done


def clean_up(effect: Callable[[], None]) -> None:
    """Remove what can be removed now; what cannot never holds the import up.

    The journal rows of what is left stay, and housekeeping removes what they name.

    Raises:
        LockLost: another worker took over.
    """
    try:
        effect()
    except TransferFailed as failed:
        log.warning("not everything could be removed now", reason=str(failed))


def stores_failed(failed: Mapping[str, TransferFailed]) -> StoresFailed:
    """Return the error that reports why stores were not written."""
    may_pass = all(error.retryable for error in failed.values())
    return (StoresUnavailable if may_pass else StoresFailed)([str(error) for error in failed.values()])


def failure_of(copy: PrefectFuture[Any]) -> TransferFailed | None:
    """Return why an ended copy failed, or None; raise an error that ends the whole import."""
    copy.wait()  # it has ended, but its state is set only by waiting
    outcome = copy.state.result(raise_on_failure=False)
    if isinstance(outcome, TransferFailed) and not isinstance(outcome, ImportStopped):
        return outcome
    if isinstance(outcome, BaseException):
        raise outcome
    return None
