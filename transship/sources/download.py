"""Download a source into its part file: from the start or resumed, in one stream or in ranges, within limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    ImageTooLarge,
    ProjectOverQuota,
    SourceChanged,
    SourceEmpty,
    SourceRefused,
    SourceTooLong,
    SourceTruncated,
    SourceUnreachable,
)
from transship.domain.throttle import ThrottledProgress
from transship.sources.answer import (
    SNIFF_BYTES,
    WHOLE,
    Fit,
    Span,
    Validators,
    begins_like_page,
    content_type_of,
    continued_total,
    is_page_type,
    range_fit,
    takes_ranges,
    total_of,
    validators_of,
    whole_size_of,
)
from transship.sources.client import SourceClient
from transship.sources.connection import Connection
from transship.sources.dialling import ConnectionBroken
from transship.sources.parallel import RangedDownload, RangesUnusable
from transship.sources.part import PartFile
from transship.sources.ranges import Finished, RangeJournal, RangePlan
from transship.sources.watch import Watch

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with (bytes done, total bytes or 0); the first number never falls while the second stays the same."""

_PROGRESS_EVERY_S: Final = 0.25


class Reserve(Protocol):
    """Reserves room in staging."""

    def __call__(self, size_bytes: int, /) -> None:
        """Make sure that the file may grow to ``size_bytes``.

        Raises:
            StagingFull: there is no room.
        """


@dataclass(frozen=True, slots=True)
class PartTarget:
    """Where a download is written, and what is called meanwhile.

    Attributes:
        path: the ``.part`` file; created if missing.
        remember: called with the validators of a fresh start, while the file is still empty.
        reserve: called with the file's new size before it grows.
        progress: called at most four times a second, and once at the end.
        resume: validators of the bytes that the file holds; None: start from zero.
    """

    path: Path
    remember: Callable[[Validators], None]
    reserve: Reserve
    progress: Progress
    resume: Validators | None = None


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A complete download.

    Attributes:
        size: bytes of the file.
        validators: of the version that the file holds.
        content_type: as the server stated it; for information only.
        resumed_from: bytes from earlier attempts; 0 for a download from the start.
        end_proven: whether the server marked the end by a length or a last chunk. If not, a truncated download
            looks like a complete one.
    """

    size: int
    validators: Validators
    content_type: str
    resumed_from: int
    end_proven: bool = True


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How large a download may become, and by how much it grows at a time.

    Attributes:
        cap_bytes: largest download accepted.
        step_bytes: room reserved at a time while the size is unknown.
    """

    cap_bytes: int
    step_bytes: int


@dataclass(frozen=True, slots=True)
class Rest:
    """What a part file lacks of a version, and how to request it.

    Attributes:
        known: validators of what the file holds.
        headers: request the next missing bytes.
        offset: position of the first of them.
        ranges: what the file holds; None: a contiguous beginning.
    """

    known: Validators
    headers: Mapping[str, str]
    offset: int
    ranges: Finished | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """A response whose body is to be written, and what the file holds already.

    Attributes:
        answer: the response; its next byte belongs at ``position``.
        version: validators of what the file holds and will hold.
        position: where the next byte goes.
        total: size of the whole source; None when it is not announced.
        resumed_from: bytes from earlier attempts.
        ranges: what the file holds, for a download in ranges; None for one stream.
        missing: whether any bytes are missing.
    """

    answer: Connection
    version: Validators
    position: int
    total: int | None
    resumed_from: int = 0
    ranges: Finished | None = None
    missing: bool = True


class ProgressReporter:
    """Reports progress at a limited rate; for use by one thread."""

    def __init__(self, listener: Progress) -> None:
        self._throttled = ThrottledProgress(listener, _PROGRESS_EVERY_S)
        self._most_done = 0

    def report(self, done: int, total: int | None) -> None:
        """Report unless the last report was too recent."""
        # Reported progress never goes back, even after a fresh start.
        self._most_done = max(self._most_done, done)
        self._throttled(min(self._most_done, total) if total else self._most_done, total or 0)

    def report_end(self, size: int) -> None:
        """Report that all ``size`` bytes have arrived."""
        self._throttled.end(size)


class Download:
    """One attempt to download a source into a part file.

    Args:
        client: requests the source.
        target: where the source is written.
        part: the open file at ``target.path``.
        sizes: how large it may become.
        limits: connections, ranges, chunks.
        watch: ends the attempt.
        pinned: identifies the version of the source in place of the server's validators.
    """

    def __init__(
        self,
        client: SourceClient,
        target: PartTarget,
        part: PartFile,
        sizes: SizeLimits,
        limits: DownloadSettings,
        watch: Watch,
        pinned: str,
    ) -> None:
        self._client = client
        self._target = target
        self._part = part
        self._journal = RangeJournal(part.path)
        self._sizes = sizes
        self._limits = limits
        self._watch = watch
        self._pinned = pinned
        self._progress = ProgressReporter(target.progress)
        self._reserved_bytes = 0
        self._may_use_ranges = True

    # --- what to download ----------------------------------------------------------------------

    def rest(self, known: Validators | None) -> Rest | None:
        """Return what the file lacks of a version; None when the whole source is needed.

        Args:
            known: validators of what the file holds, if any.
        """
        size = self._part.size
        if known is None or not known.strong or known.pinned != self._pinned or not size:
            return None
        if self._journal.exists:
            finished = self._journal.read(known)
            if finished is None or finished.end > size or not any(finished.done.values()):
                return None
            return _rest_of_ranges(known, finished)
        # If the file is complete, its last byte is requested again: only then are the validators compared.
        offset = size if known.total_bytes is None else min(size, known.total_bytes - 1)
        if offset <= 0 or (known.total_bytes is not None and size > known.total_bytes):
            return None
        return Rest(known, known.headers(f"bytes={offset}-"), offset)

    def continued(self, answer: Connection, rest: Rest) -> Body | None:
        """Prepare for the response to the request for the rest; None when it is unusable."""
        known = rest.known
        if rest.ranges is not None:
            plan, done = rest.ranges.plan, rest.ranges.done
            index = rest.offset // plan.range_bytes
            wanted = Span(rest.offset, plan.first(index) + plan.length(index) - 1, plan.total_bytes)
            fits = answer.status == 206 and self._fit(answer, wanted, known) is Fit.FITS
            if not fits:
                return self._instead(answer, wanted, known)
            self._make_room(plan.total_bytes, plan.total_bytes)
            held = sum(done.values())
            log.info("download resumed", uri=answer.display, size=known.total_bytes, done=held)
            return Body(answer, known, rest.offset, plan.total_bytes, resumed_from=held, ranges=rest.ranges)
        if answer.status == 206:
            total = continued_total(answer.headers, answer.framing(), rest.offset, known)
            if total is not None:
                return self._rest_in_one(answer, rest.offset, total, known)
        # 416 comes only if the validator still matches (RFC 9110, section 13.2.2), so the file is whole.
        if answer.status == 416 and known.total_bytes is None and whole_size_of(answer.headers) == rest.offset:
            version = replace(known, total_bytes=rest.offset)
            return Body(answer, version, rest.offset, rest.offset, resumed_from=rest.offset, missing=False)
        total = known.total_bytes or answer.framing().length or 0
        return self._instead(answer, Span(rest.offset, max(rest.offset, total - 1), total), known)

    def start_over(self, reason: SourceChanged | RangesUnusable) -> None:
        """Download the source in one stream the next time.

        This holds for a changed source too: if its servers give the same file different validators, it would seem to
        change every time.
        """
        log.info("starting over in one stream", uri=reason.uri, reason=type(reason).__name__)
        self._may_use_ranges = False

    def _rest_in_one(self, answer: Connection, offset: int, total: int, known: Validators) -> Body:
        """Prepare for the rest of a source whose contiguous beginning the file holds."""
        self._make_room(total, total)
        version = replace(known, total_bytes=total)
        log.info("download resumed", uri=answer.display, size=total, done=offset)
        finished = None
        if self._limits.connections > 1 and known.total_bytes and total - offset > self._limits.range_bytes:
            plan = RangePlan(total, self._limits.range_bytes)
            finished = Finished(plan, plan.prefix(offset))
            self._part.sync()
            self._journal.begin(version, finished)
        self._part.continue_at(offset)
        return Body(answer, version, offset, total, resumed_from=offset, ranges=finished)

    @staticmethod
    def _fit(answer: Connection, wanted: Span, known: Validators) -> Fit:
        return range_fit(answer.status, answer.headers, answer.framing(), wanted, known)

    def _instead(self, answer: Connection, wanted: Span, known: Validators) -> Body | None:
        """Start over with a response that holds the whole source instead of the rest; return None for other ones."""
        fit = self._fit(answer, wanted, known)
        log.info("source does not continue, starting over", uri=answer.display, status=answer.status, fit=fit)
        if fit is not Fit.CHANGED:
            self._may_use_ranges = False
        return self.afresh(answer) if answer.status in WHOLE else None

    def afresh(self, answer: Connection) -> Body:
        """Empty the file to receive the whole source."""
        framing = answer.framing()
        total = total_of(answer.display, answer.status, answer.headers, framing)
        if total == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)
        self._make_room(0 if total is None else total, total)
        version = validators_of(answer.headers, total, datetime.now(UTC))
        if self._pinned:
            version = Validators(total_bytes=total, pinned=self._pinned, digest=version.digest)
        # This order ensures that the remembered validators always match what the file holds.
        if self._journal.exists:
            self._journal.void()
        self._part.empty()
        plan = self._plan(answer, version) if self._may_use_ranges and framing.length is not None else None
        if plan is not None:
            self._journal.void()
        self._target.remember(version)
        log.info("download started", uri=answer.display, size=total, ranges=0 if plan is None else plan.count)
        if plan is not None:
            self._journal.begin(version, Finished(plan))
            return Body(answer, version, 0, total, ranges=Finished(plan))
        self._journal.remove()
        if total is None and not framing.chunked:
            log.warning("the source announces no size, so a truncated download cannot be detected", uri=answer.display)
        return Body(answer, version, 0, total)

    def _plan(self, answer: Connection, version: Validators) -> RangePlan | None:
        """Return how to split a source into ranges; None when it must come in one stream."""
        total, limits = version.total_bytes, self._limits
        if total is None or total <= limits.range_bytes or limits.connections == 1 or not version.strong:
            return None
        if not (version.pinned or takes_ranges(answer.headers)) or is_page_type(content_type_of(answer.headers)):
            return None
        return RangePlan(total, limits.range_bytes)

    # --- downloading it ------------------------------------------------------------------------

    def fill(self, body: Body) -> None:
        """Download a body in one stream.

        Raises:
            RangesUnusable: the response to a request for the rest is longer than the rest, so it holds something else.
        """
        answer, part, total = body.answer, self._part, body.total
        buffer = memoryview(bytearray(self._limits.chunk_bytes))
        page_start = bytearray() if part.position == 0 and is_page_type(content_type_of(answer.headers)) else None
        while True:
            try:
                read = answer.read_into(buffer)
            except ConnectionBroken as broken:
                raise self._broke_off(body, broken) from broken
            if not read:
                break
            self._watch.check()
            if page_start is not None and len(page_start) < SNIFF_BYTES:
                page_start += buffer[: min(read, SNIFF_BYTES)]
                self._refuse_page(answer, page_start)
            done = part.position + read
            if total is not None and done > total:
                raise self._too_long(body, total)
            self._make_room(done, total)
            part.write(buffer[:read])
            self._progress.report(done, total)
        if total is not None and part.position < total:
            raise SourceTruncated(answer.display, total, part.position)
        if total is not None and answer.has_surplus():
            raise self._too_long(body, total)
        if part.position == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)

    def fill_in_ranges(self, body: Body, finished: Finished) -> None:
        """Download a body and the other missing ranges over several connections."""
        ranged = RangedDownload(self._client, self._watch, self._part, self._journal, self._limits, body.version)
        ranged.run(finished, body.answer, body.position, self._progress.report)
        size = finished.plan.total_bytes
        if self._part.size != size:
            raise SourceTruncated(body.answer.display, size, self._part.size)
        self._journal.remove()

    def downloaded(self, body: Body) -> Downloaded:
        """Return what the file holds once nothing is missing."""
        size = body.total if body.total is not None else self._part.position
        self._progress.report_end(size)
        end_proven = body.total is not None or body.answer.framing().chunked
        return Downloaded(size, body.version, content_type_of(body.answer.headers), body.resumed_from, end_proven)

    def _broke_off(self, body: Body, broken: ConnectionBroken) -> SourceTruncated | SourceUnreachable:
        done, display = self._part.position, body.answer.display
        log.info("download broke", uri=display, done=done, size=body.total, reason=broken.reason)
        if body.total is not None:
            return SourceTruncated(display, body.total, done)
        return SourceUnreachable(display, f"the connection broke after {done} bytes")

    def _too_long(self, body: Body, total: int) -> SourceTooLong | RangesUnusable:
        if body.resumed_from:
            return RangesUnusable(body.answer.display, body.answer.status)
        return SourceTooLong(body.answer.display, total)

    def _make_room(self, needed_bytes: int, total: int | None) -> None:
        sizes = self._sizes
        if needed_bytes > sizes.cap_bytes:
            raise ImageTooLarge("download", needed_bytes, sizes.cap_bytes, "imports.image_size_cap_bytes")
        if total is None:
            if 0 < self._reserved_bytes >= needed_bytes:
                return
            ahead_bytes = min(sizes.cap_bytes, max(needed_bytes, self._reserved_bytes) + sizes.step_bytes)
            with suppress(ProjectOverQuota):
                self._target.reserve(ahead_bytes)
                self._reserved_bytes = ahead_bytes
        if needed_bytes > self._reserved_bytes:
            self._target.reserve(needed_bytes)
            self._reserved_bytes = needed_bytes

    def _refuse_page(self, answer: Connection, start: bytes | bytearray) -> None:
        if begins_like_page(bytes(start)):
            self._part.empty()
            reason = "it sends a web page, not an image (a login or error page?)"
            raise SourceRefused(answer.display, answer.status, reason)


def _rest_of_ranges(known: Validators, finished: Finished) -> Rest:
    plan, done = finished.plan, dict(finished.done)
    missing = [index for index in range(plan.count) if done.get(index, 0) < plan.length(index)]
    if not missing:
        # The last byte is requested again: only then are the validators compared.
        missing = [plan.count - 1]
        done[plan.count - 1] -= 1
    index = missing[0]
    first = plan.first(index) + done.get(index, 0)
    wanted = Span(first, plan.first(index) + plan.length(index) - 1, plan.total_bytes)
    return Rest(known, known.headers_for(wanted), first, Finished(plan, done))
