"""The HTTP download engine: one attempt to bring a source into a ``.part`` file, whole or resumable.

It follows redirects itself, each through the gate; dials what the gate judged; believes no
announcement that the bytes do not bear out; and ends by itself whatever the server does.
"""

from __future__ import annotations

import contextvars
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    ImageTooLarge,
    RedirectRefused,
    SourceEmpty,
    SourceNotAccepted,
    SourceRefused,
    SourceTooLong,
    SourceTruncated,
    SourceUnreachable,
    TransferFailed,
    UriRefused,
)
from transship.domain.stop import StopToken
from transship.domain.uri_filter import Allowance, display_uri
from transship.sources.answer import (
    REDIRECTS,
    SNIFF_BYTES,
    Validators,
    begins_like_page,
    content_type_of,
    continued_total,
    failure_of,
    is_page_type,
    validators_of,
    whole_size_of,
)
from transship.sources.exchange import Exchange, ask
from transship.sources.gate import NOT_RESOLVABLE, Admitted, UriGate
from transship.sources.part import PartFile
from transship.sources.watch import Watch
from transship.sources.wire import STEP_S, WireBroken, client_tls

__all__ = ["Downloaded", "Progress", "Reserve", "Validators", "WebSource"]

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0)."""

RESERVE_STEP_BYTES: Final = 1024 * 1024 * 1024
"""Room reserved at a time while the size is unknown."""

_PROGRESS_EVERY_S: Final = 0.25


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
    """

    size: int
    validators: Validators
    content_type: str
    resumed_from: int


class WebSource:
    """Download over http and https."""

    def __init__(
        self,
        gate: UriGate,
        limits: DownloadSettings,
        image_size_cap_bytes: int,
        *,
        reserve_step_bytes: int = RESERVE_STEP_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare downloads.

        Args:
            gate: asked for the URI and for each redirect.
            limits: times, speeds, buffer.
            image_size_cap_bytes: largest download accepted.
            reserve_step_bytes: room reserved at a time while the size is unknown.
            tls: settings for https; None: the system's authorities, TLS 1.2 or newer.
        """
        self._gate = gate
        self._limits = limits
        self._cap_bytes = image_size_cap_bytes
        self._step_bytes = reserve_step_bytes
        self._tls = client_tls() if tls is None else tls

    def fetch(
        self,
        uri: str,
        path: Path,
        *,
        allowance: Allowance | None,
        resume: Validators | None,
        remember: Callable[[Validators], None],
        reserve: Reserve,
        progress: Progress,
        stop: StopToken,
    ) -> Downloaded:
        """Bring the source into the file at ``path``; makes one attempt.

        With strong validators and bytes in the file the rest alone is asked for, and appended only
        if the server proves that it is the rest of the same version; otherwise it starts over.

        Args:
            uri: as the caller gave it; may hold secrets, which no error repeats.
            path: the ``.part`` file; made if missing.
            allowance: one more host and port for this import.
            resume: validators of the bytes that the file holds; None: start from zero.
            remember: called with the validators of a fresh start, when the file is empty and before its first byte.
            reserve: called with the file's size before it grows so far.
            progress: called at most four times a second, and once at the end.
            stop: checked per chunk and ten times a second while waiting.

        Raises:
            SourceNotAccepted, RedirectRefused: the gate refused the URI or a redirect.
            SourceUnreachable, SourceUntrusted, SourceBusy, SourceRefused: no usable answer.
            SourceTruncated, SourceTooLong, SourceEmpty: other than announced, or nothing.
            SourceTooSlow, SourceTookTooLong, ImageTooLarge: a limit.
            StagingFull, StagingBroken: staging does not take it.
            LockLost, ImportStopped: asked to stop.

            What arrived stays in the file; a later attempt can resume it with the remembered validators.
        """
        watch = Watch(display_uri(uri), self._limits, stop)
        with PartFile(path) as part:
            work = _Attempt(self._gate, self._limits, self._tls, watch, uri, allowance)
            landing = _Landing(part, self._cap_bytes, self._step_bytes, self._limits, remember, reserve, progress)
            return _bring(work, landing, resume)


def _bring(work: _Attempt, landing: _Landing, resume: Validators | None) -> Downloaded:
    offset = landing.resume_offset(resume)
    if resume is not None and offset:
        with work.answer({"Range": f"bytes={offset}-", "If-Range": resume.if_range}) as answer:
            if answer.status == 200:
                return landing.afresh(answer, work.watch)
            if answer.status == 206:
                total = continued_total(answer.headers, answer.framing(), offset, resume)
                if total is not None:
                    return landing.go_on(answer, work.watch, offset, total, resume)
            # 416 comes only if the validator still matches (RFC 9110, section 13.2.2), so the file is whole.
            if answer.status == 416 and resume.total_bytes is None and whole_size_of(answer.headers) == offset:
                return landing.already_whole(answer, offset, resume)
            log.info("source does not continue, starting over", uri=answer.display, status=answer.status)
    with work.answer({}) as answer:
        return landing.afresh(answer, work.watch)


class _Attempt:
    """Asks for the source, through redirects, until data come or an error is certain."""

    def __init__(
        self,
        gate: UriGate,
        limits: DownloadSettings,
        tls: ssl.SSLContext,
        watch: Watch,
        uri: str,
        allowance: Allowance | None,
    ) -> None:
        self.watch = watch
        self._gate = gate
        self._limits = limits
        self._tls = tls
        self._uri = uri
        self._allowance = allowance

    def answer(self, wanted: dict[str, str]) -> Exchange:
        """Return an answer of status 200; with a ``Range`` wanted also 206 or 416."""
        data = (200, 206, 416) if "Range" in wanted else (200,)
        source = self._admitted()
        for _ in range(self._gate.rules.max_redirects + 1):
            answer = ask(source, wanted, self._tls, self._limits, self.watch)
            if answer.status in data:
                return answer
            answer.close()
            if answer.status not in REDIRECTS:
                now = datetime.now(UTC)
                cap_s = self._limits.retry_after_cap_s
                raise failure_of(answer.display, answer.status, answer.headers, cap_s, now)
            source = self._redirected(answer)
        most = self._gate.rules.max_redirects
        raise RedirectRefused(source.uri.display, "max_redirects", f"more than {most} redirects in a row")

    def _admitted(self) -> Admitted:
        display = display_uri(self._uri)
        try:
            return self._judged(display, lambda: self._gate.admit(self._uri, self._allowance))
        except UriRefused as refused:
            raise _refusal(refused, SourceNotAccepted(refused.uri, refused.rule, refused.reason)) from refused

    def _redirected(self, answer: Exchange) -> Admitted:
        before = answer.source.uri
        location = _location(answer)
        try:
            return self._judged(before.display, lambda: self._gate.admit_redirect(before, location, self._allowance))
        except UriRefused as refused:
            raise _refusal(refused, RedirectRefused(before.display, refused.rule, refused.reason)) from refused

    def _judged(self, display: str, judge: Callable[[], Admitted]) -> Admitted:
        """Run ``judge`` beside this thread: a resolver can block for long, and no one can interrupt it."""
        verdicts: list[Admitted | UriRefused] = []
        done = threading.Event()

        def run() -> None:
            try:
                verdicts.append(judge())
            except UriRefused as refused:
                verdicts.append(refused)
            finally:
                done.set()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="resolve", daemon=True).start()
        ends_at = time.monotonic() + self._limits.connect_timeout_s
        while not done.wait(STEP_S):
            self.watch.check()
            if time.monotonic() > ends_at:
                break
        if not verdicts:
            raise SourceUnreachable(display, "its name could not be resolved in time")
        verdict = verdicts[0]
        if isinstance(verdict, UriRefused):
            raise verdict
        return verdict


def _refusal(refused: UriRefused, final: TransferFailed) -> TransferFailed:
    """Return the error for a refusal: a name without an address may have one later, all else is final."""
    return SourceUnreachable(refused.uri, refused.reason) if refused.rule == NOT_RESOLVABLE else final


def _location(answer: Exchange) -> str:
    """Return the ``Location`` as text; http.client decodes headers as Latin-1, servers mostly send UTF-8."""
    value = str(answer.headers.get("Location", "")).strip(" \t")
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


class _Landing:
    """Brings the body of an answer into the part file, within its limits."""

    def __init__(
        self,
        part: PartFile,
        cap_bytes: int,
        step_bytes: int,
        limits: DownloadSettings,
        remember: Callable[[Validators], None],
        reserve: Reserve,
        progress: Progress,
    ) -> None:
        self._part = part
        self._cap_bytes = cap_bytes
        self._step_bytes = step_bytes
        self._limits = limits
        self._remember = remember
        self._reserve = reserve
        self._progress = progress
        self._reserved_bytes = 0
        self._told_at = 0.0

    def resume_offset(self, resume: Validators | None) -> int:
        """Return the byte from which to go on; 0 when the file must be made from the start."""
        size = self._part.size
        if resume is None or not resume.strong:
            return 0
        if resume.total_bytes is None:
            return size
        # Of a file that is whole the last byte is asked for again: only so its validators are compared.
        return max(0, min(size, resume.total_bytes - 1)) if size <= resume.total_bytes else 0

    def afresh(self, answer: Exchange, watch: Watch) -> Downloaded:
        """Take a whole source, from its first byte."""
        total = answer.framing().length
        if total == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)
        self._make_room(0 if total is None else total, total)
        validators = validators_of(answer.headers, total, datetime.now(UTC))
        # In this order: no moment at which the remembered validators are not those of the bytes in the file.
        self._part.empty()
        self._remember(validators)
        log.info("download started", uri=answer.display, size=total, address=answer.source.addresses[0])
        if total is None and not answer.framing().chunked:
            log.warning("the source announces no size, a cut cannot be told from its end", uri=answer.display)
        self._fill(answer, watch, total)
        if self._part.position == 0 and not self._limits.allow_empty:
            raise SourceEmpty(answer.display)
        return Downloaded(self._part.position, validators, content_type_of(answer.headers), 0)

    def go_on(self, answer: Exchange, watch: Watch, offset: int, total: int, resume: Validators) -> Downloaded:
        """Take the rest of a source of ``total`` bytes."""
        self._make_room(total, total)
        self._part.go_on_at(offset)
        log.info("download resumed", uri=answer.display, size=total, done=offset)
        self._fill(answer, watch, total)
        validators = Validators(resume.etag, resume.last_modified, total)
        return Downloaded(total, validators, content_type_of(answer.headers), offset)

    def already_whole(self, answer: Exchange, size: int, resume: Validators) -> Downloaded:
        """Take nothing: the file holds the whole source."""
        self._progress(size, size)
        validators = Validators(resume.etag, resume.last_modified, size)
        return Downloaded(size, validators, content_type_of(answer.headers), size)

    def _fill(self, answer: Exchange, watch: Watch, total: int | None) -> None:
        buffer = memoryview(bytearray(self._limits.chunk_bytes))
        page_start = bytearray() if self._part.position == 0 and is_page_type(content_type_of(answer.headers)) else None
        while read := self._read(answer, buffer, total):
            watch.check()
            if page_start is not None and len(page_start) < SNIFF_BYTES:
                page_start += buffer[: min(read, SNIFF_BYTES)]
                self._refuse_page(answer, page_start)
            self._take(buffer[:read], answer, total)
        if total is not None:
            self._check_length(answer, total)
        self._progress(self._part.position, self._part.position if total is None else total)

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
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = now
            self._progress(done, total or 0)

    def _make_room(self, needed_bytes: int, total: int | None) -> None:
        if needed_bytes > self._cap_bytes:
            raise ImageTooLarge("download", needed_bytes, self._cap_bytes, "imports.image_size_cap_bytes")
        if total is None:
            if 0 < self._reserved_bytes >= needed_bytes:
                return
            needed_bytes = min(self._cap_bytes, max(needed_bytes, self._reserved_bytes) + self._step_bytes)
        if needed_bytes > self._reserved_bytes:
            self._reserve(needed_bytes)
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
