"""Download a source in ranges over several connections at once.

Each connection claims a range, requests it with ``If-Range``, writes it at its position, syncs it to disk, records it
in the journal, and claims the next one. A connection that breaks releases its range and ends; the others continue.
The download fails only when the last connection fails. The response to the first request may hold more than a range:
its connection reads on until it meets a range claimed by another one, so the others claim ranges from the end.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    RedirectRefused,
    SourceBusy,
    SourceChanged,
    SourceNotAccepted,
    SourceRefused,
    SourceTruncated,
    SourceUnreachable,
    SourceUntrusted,
    TransferFailed,
    TransshipError,
)
from transship.domain.stop import StopToken
from transship.sources.answer import Fit, Span, Validators, range_fit
from transship.sources.client import NoSlotFree, SourceClient
from transship.sources.connection import Connection
from transship.sources.dialling import STEP_S, ConnectionBroken
from transship.sources.part import PartFile
from transship.sources.ranges import Finished, RangeJournal, RangePlan
from transship.sources.watch import Watch

log = structlog.get_logger(__name__)

_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
_NOTES_PER_RANGE: Final = 4
"""Journal entries per range, so a kill costs each connection only a fraction of a range.

Bytes in the sockets are lost too: some megabytes for the first response, which may extend beyond its range.
"""
_SLOT_WAIT_S: Final = 0.3
_ENDS_ONE_CONNECTION: Final = (
    RedirectRefused,
    SourceBusy,
    SourceNotAccepted,
    SourceRefused,
    SourceUnreachable,
    SourceUntrusted,
)


class RangesUnusable(Exception):
    """The server announces ranges but does not serve them, or serves wrong ones.

    Args:
        uri: for display.
        status: of the response that showed it.
    """

    def __init__(self, uri: str, status: int) -> None:
        super().__init__(uri, status)
        self.uri, self.status = uri, status


class _Over(TransshipError):
    """Tells the other connections that the download has ended."""

    BRIEF = "the download has ended; this connection is not needed any more"


class _Silent(ConnectionBroken):
    """This connection was silent for too long; the others may not have been."""


class RangedDownload:
    """Downloads the ranges of one version of a source.

    Args:
        client: requests the source.
        watch: limits of the whole download.
        part, journal: where the bytes are written, and the record of which ones have been.
        limits: connections at once, and bytes read at a time.
        version: strong validators of what the file holds.
    """

    def __init__(
        self,
        client: SourceClient,
        watch: Watch,
        part: PartFile,
        journal: RangeJournal,
        limits: DownloadSettings,
        version: Validators,
    ) -> None:
        self.client = client
        self.watch = watch
        self.part = part
        self.journal = journal
        self.limits = limits
        self.version = version

    def run(self, finished: Finished, opening: Connection, position: int, report: Callable[[int, int], None]) -> None:
        """Download all unfinished ranges.

        Args:
            finished: what the file and the journal hold.
            opening: a response that was checked already; it holds bytes from ``position`` at least to the end of the
                range. The caller closes it.
            position: position of its next byte.
            report: called with the bytes done and the total.

        Raises:
            SourceChanged: the source has another version now; the file's contents are void.
            RangesUnusable: the server does not serve ranges; it may serve the whole source.
            TransferFailed: the last connection failed, or a limit of the download was reached; finished ranges stay.
            LockLost, ImportStopped: asked to stop; all threads have ended.
        """
        board, halt = RangeBoard(finished), StopToken()
        numbers = range(min(self.limits.connections, board.open_ranges))
        board.workers.update(numbers)
        failures: list[TransferFailed | RangesUnusable] = []
        with ThreadPoolExecutor(max(1, len(numbers)), thread_name_prefix="range") as pool:
            running: set[Future[TransferFailed | RangesUnusable | None]] = set()
            try:
                for number in numbers:
                    context = contextvars.copy_context()
                    worker = _RangeWorker(self, finished.plan, board, halt, number)
                    first = (opening, position) if number == 0 else None
                    running.add(pool.submit(context.run, worker.run, first))
                while running:
                    ended, running = wait(running, STEP_S, FIRST_COMPLETED)
                    failures += [failure for future in ended if (failure := future.result()) is not None]
                    self.watch.check()
                    report(board.done_bytes, finished.plan.total_bytes)
            finally:
                halt.stop(_Over())
        if not board.complete:
            self.part.sync()
            for index, done in board.unfinished().items():
                self.journal.note(finished.plan, index, done)
            raise failures[-1]


class RangeBoard:
    """Which connection has which range. Every method may be called from any thread.

    Attributes:
        workers: numbers of the connections that have not given up.
    """

    def __init__(self, finished: Finished) -> None:
        plan = finished.plan
        self._plan = plan
        self._done = [finished.done.get(index, 0) for index in range(plan.count)]
        self._free = {index for index in range(plan.count) if self._done[index] < plan.length(index)}
        self._open = len(self._free)
        self._sum = sum(self._done)
        self._unproven: set[int] = set()
        self._changed = threading.Condition()
        self.workers: set[int] = set()

    @property
    def open_ranges(self) -> int:
        """Ranges that are not finished."""
        return self._open

    @property
    def complete(self) -> bool:
        """Whether all ranges are finished."""
        return self._open == 0

    @property
    def done_bytes(self) -> int:
        """Bytes that the file holds."""
        return self._sum

    def unfinished(self) -> dict[int, int]:
        """Return the bytes of each range that is begun but not finished."""
        lengths = enumerate(self._done)
        return {index: done for index, done in lengths if 0 < done < self._plan.length(index)}

    def next_byte(self, index: int) -> int:
        """Return the position of a range's first missing byte."""
        return self._plan.first(index) + self._done[index]

    def claim_at(self, position: int, watch: ConnectionWatch) -> int | None:
        """Claim the range whose next byte is at ``position``; None when another connection has it.

        Waits while that connection has not received a valid response yet: a response that works must not be given up
        for one that may never arrive.
        """
        index = position // self._plan.range_bytes
        with self._changed:
            while index in self._unproven:
                self._changed.wait(STEP_S)
                watch.check()
            if index not in self._free or self.next_byte(index) != position:
                return None
            self._free.remove(index)
            return index

    def claim(self, watch: ConnectionWatch) -> int | None:
        """Claim the last free range, waiting for one to be released; None when all are finished."""
        with self._changed:
            while self._open and not self._free:
                self._changed.wait(STEP_S)
                watch.check()
            if not self._open:
                return None
            index = max(self._free)
            self._free.remove(index)
            self._unproven.add(index)
            return index

    def prove(self, index: int) -> None:
        """Note that a valid response for a range has arrived."""
        with self._changed:
            self._unproven.discard(index)
            self._changed.notify_all()

    def arrived(self, index: int, size_bytes: int) -> None:
        """Note that more bytes of a range are in the file."""
        with self._changed:
            self._done[index] += size_bytes
            self._sum += size_bytes

    def finish(self, index: int) -> None:
        """Note that a range is complete, on disk and in the journal."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def give_back(self, index: int) -> None:
        """Release a range, so another connection downloads the rest."""
        with self._changed:
            self._unproven.discard(index)
            self._free.add(index)
            self._changed.notify_all()

    def leave(self, number: int) -> None:
        """Note that a connection gives up."""
        with self._changed:
            self.workers.discard(number)

    def is_first(self, number: int) -> bool:
        """Whether a connection is the one that waits for a slot; the others give up if none is free."""
        with self._changed:
            return number == min(self.workers, default=number)


class ConnectionWatch:
    """One connection's view of the shared watch; silence of this connection ends only this connection.

    Attributes:
        uri: what this connection waits for.
        stop: ends all connections.
    """

    def __init__(self, shared: Watch, halt: StopToken) -> None:
        self.uri = shared.uri
        self.stop = halt
        self._shared = shared
        self._silent_s = 0.0

    def check(self) -> None:
        """End the connection if the download has ended or must end."""
        self.stop.check()
        self._shared.check()

    def heard(self, size_bytes: int) -> None:
        """Note bytes that the source sent."""
        self._silent_s = 0.0
        self._shared.heard(size_bytes)

    def waited(self, seconds: float) -> None:
        """Note time that was spent waiting for the source.

        Raises:
            ConnectionBroken: this connection was silent for too long.
            TransferFailed, LockLost: a limit of the whole download.
        """
        self.stop.check()
        self._silent_s += seconds
        if self._silent_s > self._shared.idle_timeout_s:
            raise _Silent("silent for too long")
        self._shared.waited(seconds)


@dataclass(slots=True)
class _Reading:
    """A partly read response, and the position of its next byte."""

    answer: Connection
    position: int
    undo: ExitStack = field(default_factory=ExitStack)


class _RangeWorker:
    """Opens one connection after another until nothing is left to do or one of them fails."""

    def __init__(
        self, download: RangedDownload, plan: RangePlan, board: RangeBoard, halt: StopToken, number: int
    ) -> None:
        self._download = download
        self._plan = plan
        self._board = board
        self._number = number
        self._watch = ConnectionWatch(download.watch, halt)
        self._buffer = memoryview(bytearray(download.limits.chunk_bytes))
        self._reading: _Reading | None = None

    def run(self, opening: tuple[Connection, int] | None) -> TransferFailed | RangesUnusable | None:
        """Work; return why it gave up, or None when everything is finished."""
        if opening is not None:
            answer, position = opening
            answer.set_watch(self._watch)
            undo = ExitStack()
            undo.enter_context(self._download.watch.one_of_several())
            self._reading = _Reading(answer, position, undo)
        try:
            while (index := self._claim()) is not None:
                failure = self._bring(index)
                if failure is not None:
                    return failure
            return None
        finally:
            self._hang_up()
            self._board.leave(self._number)

    def _claim(self) -> int | None:
        if self._reading is not None:
            index = self._board.claim_at(self._reading.position, self._watch)
            if index is not None:
                return index
            self._hang_up()
        return self._board.claim(self._watch)

    def _bring(self, index: int) -> TransferFailed | RangesUnusable | None:
        failure: TransferFailed | RangesUnusable
        try:
            if self._reading is None:
                self._reading = self._open(index)
                self._board.prove(index)
            self._fill(index, self._reading)
        except NoSlotFree:
            self._board.give_back(index)
            self._watch.stop.wait(_SLOT_WAIT_S)
            return None
        except _Silent:
            failure = self._download.watch.silent()
        except ConnectionBroken as broken:
            log.info("connection broke", uri=self._watch.uri, range=index, reason=broken.reason)
            failure = SourceTruncated(self._watch.uri, self._plan.total_bytes, self._board.done_bytes)
        except _ENDS_ONE_CONNECTION as failed:
            failure = failed
        except RangesUnusable as unusable:
            failure = unusable
        else:
            self._refuse_surplus()
            self._finish(index)
            return None
        log.info("one connection fewer", uri=self._watch.uri, connection=self._number, reason=str(failure))
        self._board.leave(self._number)
        self._board.give_back(index)
        return failure

    def _open(self, index: int) -> _Reading:
        first = self._board.next_byte(index)
        wanted = Span(first, self._plan.first(index) + self._plan.length(index) - 1, self._plan.total_bytes)
        with ExitStack() as undo:
            undo.enter_context(self._download.watch.one_of_several())
            wait_for_slot = self._board.is_first(self._number)
            headers = self._download.version.headers_for(wanted)
            answer = undo.enter_context(self._download.client.get(headers, self._watch, wait_for_slot=wait_for_slot))
            fit = range_fit(answer.status, answer.headers, answer.framing(), wanted, self._download.version)
            if fit is Fit.CHANGED:
                raise SourceChanged(answer.display)
            if fit is Fit.UNUSABLE:
                raise RangesUnusable(answer.display, answer.status)
            return _Reading(answer, first, undo.pop_all())

    def _fill(self, index: int, reading: _Reading) -> None:
        end = self._plan.first(index) + self._plan.length(index)
        part = self._download.part
        flushed = noted = reading.position
        step = self._plan.range_bytes // _NOTES_PER_RANGE
        while reading.position < end:
            read = reading.answer.read_into(self._buffer[: end - reading.position])
            if not read:
                raise ConnectionBroken("the answer ended before its range")
            self._watch.check()
            part.write_at(self._buffer[:read], reading.position)
            reading.position += read
            self._board.arrived(index, read)
            if reading.position - flushed >= _WRITE_BACK_BYTES:
                part.begin_write_back(flushed, reading.position)
                flushed = reading.position
            if reading.position - noted >= step and reading.position < end:
                self._note(index)
                noted = reading.position

    def _refuse_surplus(self) -> None:
        """End the whole download if a response is longer than announced: none of its bytes can be trusted then."""
        answer = None if self._reading is None else self._reading.answer
        if answer is not None and not answer.has_more and answer.has_surplus():
            raise RangesUnusable(answer.display, answer.status)

    def _finish(self, index: int) -> None:
        # Close it before syncing to disk, so neither the server nor another import waits for the disk.
        if self._reading is not None and not self._reading.answer.has_more:
            self._hang_up()
        self._note(index)
        self._board.finish(index)

    def _note(self, index: int) -> None:
        done = self._board.next_byte(index) - self._plan.first(index)
        self._download.part.sync()
        self._download.journal.note(self._plan, index, done)

    def _hang_up(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.answer.close()
            reading.undo.close()
