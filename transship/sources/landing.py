"""Bring the body of an answer into the part file, within its limits: in one stream, or in ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    ImageTooLarge,
    SourceEmpty,
    SourceRefused,
    SourceTooLong,
    SourceTruncated,
    SourceUnreachable,
)
from transship.sources.answer import (
    SNIFF_BYTES,
    Validators,
    begins_like_page,
    content_type_of,
    is_page_type,
    takes_ranges,
    total_of,
    validators_of,
)
from transship.sources.asking import Asker
from transship.sources.exchange import Exchange
from transship.sources.parallel import RangesUnusable, Ways, bring_ranges
from transship.sources.part import PartFile
from transship.sources.progress import Teller
from transship.sources.ranges import Finished, RangeJournal, RangePlan
from transship.sources.watch import Watch
from transship.sources.wire import WireBroken

log = structlog.get_logger(__name__)


class Reserve(Protocol):
    """Sets staging room aside."""

    def __call__(self, size_bytes: int, /) -> None:
        """Make sure that the file may grow to ``size_bytes`` in all.

        Raises:
            StagingFull: there is no room.
        """


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete download.

    Attributes:
        size: bytes of the file.
        validators: of the version that the file holds.
        content_type: as the server named it; for information only.
        resumed_from: bytes that earlier attempts had brought; 0 for a download from the start.
        end_proven: whether the server marked the end, by a length or a last chunk. If not, the end of the
            connection was taken for it, and a cut could not be told from it.
    """

    size: int
    validators: Validators
    content_type: str
    resumed_from: int
    end_proven: bool = True


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the part file holds of a source already.

    Attributes:
        size_bytes: bytes, at least 1.
        finished: which ones, None: an unbroken beginning.
    """

    size_bytes: int
    finished: Finished | None


@dataclass(frozen=True, slots=True)
class Room:
    """How large a download may become.

    Attributes:
        cap_bytes: largest download accepted.
        step_bytes: room reserved at a time while the size is unknown.
        reserve: called with the file's size before it grows so far.
    """

    cap_bytes: int
    step_bytes: int
    reserve: Reserve


class Landing:
    """The part file of one download, and all that must happen before and after a byte gets there."""

    def __init__(
        self,
        part: PartFile,
        room: Room,
        limits: DownloadSettings,
        remember: Callable[[Validators], None],
        teller: Teller,
        asker: Asker,
        watch: Watch,
        pinned: str = "",
    ) -> None:
        """Prepare; the file is not touched yet.

        Args:
            part, room, limits: the file, and how large it may become.
            remember: called with the validators of a fresh start, when the file is empty.
            teller: learns of the progress.
            asker, watch: for further connections, and to end the wait for them.
            pinned: what tells the version of the source from elsewhere, in the place of the server's validators.
        """
        self._pinned = pinned
        self._part = part
        self._journal = RangeJournal(part.path)
        self._room = room
        self._limits = limits
        self._remember = remember
        self._teller = teller
        self._asker = asker
        self._watch = watch
        self._reserved_bytes = 0

    def beginning(self, known: Validators | None) -> Beginning | None:
        """Return what the file holds of a version; None when it must be made from the start."""
        size = self._part.size
        if known is None or not known.strong or not size:
            return None
        if self._journal.exists:
            finished = self._journal.read(known)
            if finished is None or finished.end > size:
                return None
            done_bytes = sum(finished.done.values())
            return Beginning(done_bytes, finished) if done_bytes else None
        if known.total_bytes is None:
            return Beginning(size, None)
        # Of a file that is whole the last byte is asked for again: only so its validators are compared.
        kept = min(size, known.total_bytes - 1) if size <= known.total_bytes else 0
        return Beginning(kept, None) if kept > 0 else None

    def afresh(self, answer: Exchange, *, in_ranges: bool) -> Downloaded:
        """Take a whole source, from its first byte.

        Args:
            answer: one that holds it.
            in_ranges: bring it in ranges if the answer says that the server can.
        """
        framing = answer.framing()
        total = total_of(answer.display, answer.status, answer.headers, framing)
        if total == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)
        self._make_room(0 if total is None else total, total)
        version = validators_of(answer.headers, total, datetime.now(UTC))
        if self._pinned:
            version = Validators(total_bytes=total, pinned=self._pinned, digest=version.digest)
        # In this order: no moment at which what is remembered is not what the file holds.
        if self._journal.exists:
            self._journal.void()
        self._part.empty()
        plan = self._plan(answer, version) if in_ranges and framing.length is not None else None
        if plan is not None:
            self._journal.void()
        self._remember(version)
        log.info("download started", uri=answer.display, size=total, ranges=0 if plan is None else plan.count)
        if plan is not None:
            return self._in_ranges(answer, version, Finished(plan), 0)
        self._journal.remove()
        end_proven = total is not None or framing.chunked
        if not end_proven:
            log.warning("the source announces no size, a cut cannot be told from its end", uri=answer.display)
        self._fill(answer, total)
        if self._part.position == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)
        return Downloaded(self._part.position, version, content_type_of(answer.headers), 0, end_proven)

    def go_on(self, answer: Exchange, offset: int, total: int, known: Validators) -> Downloaded:
        """Take the rest of a source, of which the file holds an unbroken beginning.

        Args:
            answer: a right 206 that holds everything from ``offset`` on.
            offset: bytes that the file holds.
            total: size of the whole source.
            known: validators of what the file holds.

        Raises:
            RangesUnusable: the answer is longer than announced, so that what it holds is not the rest.
        """
        self._make_room(total, total)
        version = replace(known, total_bytes=total)
        log.info("download resumed", uri=answer.display, size=total, done=offset)
        if self._limits.connections > 1 and known.total_bytes and total - offset > self._limits.range_bytes:
            plan = RangePlan(total, self._limits.range_bytes)
            finished = Finished(plan, plan.prefix(offset))
            self._part.sync()
            self._journal.begin(version, finished)
            return self._in_ranges(answer, version, finished, offset)
        self._part.go_on_at(offset)
        try:
            self._fill(answer, total)
        except SourceTooLong as surplus:
            raise RangesUnusable(answer.display, answer.status) from surplus
        return Downloaded(total, version, content_type_of(answer.headers), offset)

    def go_on_in_ranges(self, answer: Exchange, position: int, finished: Finished, known: Validators) -> Downloaded:
        """Take what is missing of a source, of which the file holds some ranges.

        Args:
            answer: a right 206 that holds one range's rest.
            position: place of its first byte.
            finished: what the file holds, but for the bytes of ``answer``.
            known: validators of what the file holds.
        """
        self._make_room(finished.plan.total_bytes, finished.plan.total_bytes)
        log.info("download resumed", uri=answer.display, size=known.total_bytes, done=sum(finished.done.values()))
        return self._in_ranges(answer, known, finished, position)

    def already_whole(self, answer: Exchange, size: int, known: Validators) -> Downloaded:
        """Take nothing: the file holds the whole source."""
        self._teller.tell_end(size)
        version = replace(known, total_bytes=size)
        return Downloaded(size, version, content_type_of(answer.headers), size)

    def _plan(self, answer: Exchange, version: Validators) -> RangePlan | None:
        """Return how to cut a source, None when it must come in one stream."""
        total, limits = version.total_bytes, self._limits
        if total is None or total <= limits.range_bytes or limits.connections == 1 or not version.strong:
            return None
        if not (version.pinned or takes_ranges(answer.headers)) or is_page_type(content_type_of(answer.headers)):
            return None
        return RangePlan(total, limits.range_bytes)

    def _in_ranges(self, answer: Exchange, version: Validators, finished: Finished, position: int) -> Downloaded:
        if not finished.done:
            self._journal.begin(version, finished)
        ways = Ways(
            self._asker,
            self._watch,
            self._part,
            self._journal,
            self._limits.connections,
            self._limits.chunk_bytes,
            self._teller,
        )
        bring_ranges(ways, version, finished, answer, position)
        size = finished.plan.total_bytes
        if self._part.size != size:
            raise SourceTruncated(answer.display, size, self._part.size)
        self._journal.remove()
        self._teller.tell_end(size)
        return Downloaded(size, version, content_type_of(answer.headers), sum(finished.done.values()))

    def _fill(self, answer: Exchange, total: int | None) -> None:
        buffer = memoryview(bytearray(self._limits.chunk_bytes))
        page_start = bytearray() if self._part.position == 0 and is_page_type(content_type_of(answer.headers)) else None
        while read := self._read(answer, buffer, total):
            self._watch.check()
            if page_start is not None and len(page_start) < SNIFF_BYTES:
                page_start += buffer[: min(read, SNIFF_BYTES)]
                self._refuse_page(answer, page_start)
            self._take(buffer[:read], answer, total)
        if total is not None:
            self._check_length(answer, total)
        self._teller.tell_end(self._part.position)

    def _read(self, answer: Exchange, buffer: memoryview, total: int | None) -> int:
        try:
            return answer.read_into(buffer)
        except WireBroken as broken:
            done = self._part.position
            log.info("download broke", uri=answer.display, done=done, size=total, reason=broken.reason)
            if total is not None:
                raise SourceTruncated(answer.display, total, done) from broken
            raise SourceUnreachable(answer.display, f"the connection broke after {done} bytes") from broken

    def _take(self, piece: memoryview, answer: Exchange, total: int | None) -> None:
        done = self._part.position + len(piece)
        if total is not None and done > total:
            raise SourceTooLong(answer.display, total)
        self._make_room(done, total)
        self._part.write(piece)
        self._teller.tell(done, total)

    def _make_room(self, needed_bytes: int, total: int | None) -> None:
        room = self._room
        if needed_bytes > room.cap_bytes:
            raise ImageTooLarge("download", needed_bytes, room.cap_bytes, "imports.image_size_cap_bytes")
        if total is None:
            if 0 < self._reserved_bytes >= needed_bytes:
                return
            needed_bytes = min(room.cap_bytes, max(needed_bytes, self._reserved_bytes) + room.step_bytes)
        if needed_bytes > self._reserved_bytes:
            room.reserve(needed_bytes)
            self._reserved_bytes = needed_bytes

    def _refuse_page(self, answer: Exchange, start: bytes | bytearray) -> None:
        if begins_like_page(bytes(start)):
            self._part.empty()
            reason = "it sends a web page, not an image (a login or error page?)"
            raise SourceRefused(answer.display, answer.status, reason)

    def _check_length(self, answer: Exchange, total: int) -> None:
        if self._part.position < total:
            raise SourceTruncated(answer.display, total, self._part.position)
        if answer.has_surplus():
            raise SourceTooLong(answer.display, total)
