"""Bring a source in ranges, over several connections at once.

Each connection takes a range, asks for it with ``If-Range``, writes it at its place, makes the
disk have it, notes it in the journal, and takes the next one. A connection that breaks gives its
range back and ends; the others go on without it, and only the last one's failure is the
download's. The connection that brought the first answer may hold more than a range: it goes on
from range to range until it meets one that another connection took, so the others take theirs
from the end.
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
"""Notes in the journal for each range, so that a kill costs a connection clearly less than a range.

What is in the sockets on top of that is lost too: with the first answer, which may go on behind
its range, that is some megabytes.
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
    """The server announces ranges and does not serve them, or sends something else as a range.

    Args:
        uri: for display.
        status: of the answer that showed it.
    """

    def __init__(self, uri: str, status: int) -> None:
        super().__init__(uri, status)
        self.uri, self.status = uri, status


class _Over(TransshipError):
    """The other connections' sign that the download has ended."""

    BRIEF = "the download has ended; this connection is not needed any more"


class _Silent(ConnectionBroken):
    """One connection was silent for too long, whatever the others did."""


class RangedDownload:
    """Brings the ranges of one version of a source.

    Args:
        client: asks for the source.
        watch: limits of the whole download.
        part, journal: where the bytes go, and what says which are there.
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
        """Bring all ranges that are not finished.

        Args:
            finished: what the file and the journal hold.
            opening: an answer that was judged already; it holds bytes from ``position`` on, at least to its range's
                end. The caller closes it.
            position: place of its next byte.
            report: called with the bytes done and in all.

        Raises:
            SourceChanged: the source is of another version now; what the file holds is void.
            RangesUnusable: the server does not serve ranges; it may serve the whole.
            TransferFailed: the last connection's failure, or a limit of the whole; finished ranges stay.
            LockLost, ImportStopped: asked to stop; no thread is left behind.
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
    """Which range is whose. Every method may be called from any thread.

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
        """Return the bytes of each range that is begun and not finished."""
        lengths = enumerate(self._done)
        return {index: done for index, done in lengths if 0 < done < self._plan.length(index)}

    def next_byte(self, index: int) -> int:
        """Return the place of the first byte that a range lacks."""
        return self._plan.first(index) + self._done[index]

    def claim_at(self, position: int, watch: ConnectionWatch) -> int | None:
        """Take the range whose next byte stands at ``position``; None when another connection has it.

        While the other one has not had a right answer yet it is waited for: an answer that can go
        on must not be given up for one that may never come.
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
        """Take the last range that is free, waiting for one to be given back; None when all are finished."""
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
        """Note that a right answer for a range has come."""
        with self._changed:
            self._unproven.discard(index)
            self._changed.notify_all()

    def arrived(self, index: int, size_bytes: int) -> None:
        """Note that further bytes of a range are in the file."""
        with self._changed:
            self._done[index] += size_bytes
            self._sum += size_bytes

    def finish(self, index: int) -> None:
        """Note that a range is whole, on the disk and in the journal."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def give_back(self, index: int) -> None:
        """Let another connection bring the rest of a range."""
        with self._changed:
            self._unproven.discard(index)
            self._free.add(index)
            self._changed.notify_all()

    def leave(self, number: int) -> None:
        """Note that a connection gives up."""
        with self._changed:
            self.workers.discard(number)

    def is_first(self, number: int) -> bool:
        """Whether a connection is the one that has to wait its turn; the others do without."""
        with self._changed:
            return number == min(self.workers, default=number)


class ConnectionWatch:
    """One connection's view of the watch that all share: its own silence ends it alone.

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
            TransferFailed, LockLost: a limit of the whole.
        """
        self.stop.check()
        self._silent_s += seconds
        if self._silent_s > self._shared.idle_timeout_s:
            raise _Silent("silent for too long")
        self._shared.waited(seconds)


@dataclass(slots=True)
class _Reading:
    """An answer in the middle of its body, and the place of its next byte."""

    answer: Connection
    position: int
    undo: ExitStack = field(default_factory=ExitStack)


class _RangeWorker:
    """One connection after the other, until nothing is left to do or one of them fails."""

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
        """Work; returns why it gave up, None when everything is finished."""
        if opening is not None:
            answer, position = opening
            answer.hand_to(self._watch)
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
        log.info("one connection less", uri=self._watch.uri, connection=self._number, reason=str(failure))
        self._board.leave(self._number)
        self._board.give_back(index)
        return failure

    def _open(self, index: int) -> _Reading:
        first = self._board.next_byte(index)
        wanted = Span(first, self._plan.first(index) + self._plan.length(index) - 1, self._plan.total_bytes)
        with ExitStack() as undo:
            undo.enter_context(self._download.watch.one_of_several())
            patient = self._board.is_first(self._number)
            headers = self._download.version.headers_for(wanted)
            answer = undo.enter_context(self._download.client.get(headers, self._watch, patient=patient))
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
        """End the whole download if an answer is longer than announced: then no byte of it is known to be right."""
        answer = None if self._reading is None else self._reading.answer
        if answer is not None and not answer.goes_on and answer.has_surplus():
            raise RangesUnusable(answer.display, answer.status)

    def _finish(self, index: int) -> None:
        # Closed before the disk works, so that neither the server nor another import waits for it.
        if self._reading is not None and not self._reading.answer.goes_on:
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
