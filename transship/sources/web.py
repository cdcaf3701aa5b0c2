"""The HTTP download engine: one attempt to bring a source into a ``.part`` file, whole or resumable.

It follows redirects itself, each through the gate; dials what the gate judged; believes no
announcement that the bytes do not bear out; and ends by itself whatever the server does.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    ConfigurationRefused,
    SourceBusy,
    SourceChanged,
    SourceRefused,
    SourceTruncated,
    SourceUnreachable,
)
from transship.domain.stop import StopToken
from transship.domain.uri_filter import display_uri
from transship.sources.answer import (
    WHOLE,
    Fit,
    Span,
    Validators,
    continued_total,
    range_fit,
    validators_of,
    whole_size_of,
)
from transship.sources.asking import Asker
from transship.sources.exchange import Exchange, Line
from transship.sources.gate import UriGate
from transship.sources.landing import Beginning, Downloaded, Landing, Reserve, Room
from transship.sources.parallel import RangesUnusable, range_headers
from transship.sources.part import PartFile
from transship.sources.progress import Progress, Teller
from transship.sources.proxy import Proxy
from transship.sources.ranges import Finished
from transship.sources.slots import ConnectionSlots
from transship.sources.watch import Watch
from transship.sources.wire import WireBroken, client_tls

__all__ = ["Downloaded", "Glimpse", "Progress", "Reserve", "Validators", "WebSource"]

log = structlog.get_logger(__name__)

RESERVE_STEP_BYTES: Final = 1024 * 1024 * 1024
"""Room reserved at a time while the size is unknown."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """How a source begins and ends.

    Attributes:
        head: its first bytes.
        tail: its last bytes; empty when the server does not serve them without the rest.
        size: of the whole source, bytes; None when it was not announced.
    """

    head: bytes
    tail: bytes
    size: int | None


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
        slots_file: Path | None = None,
        waiting: Callable[[str], None] = lambda _host: None,
    ) -> None:
        """Prepare downloads.

        Args:
            gate: asked for the URI and for each redirect.
            limits: times, speeds, connections, authorities, proxy.
            image_size_cap_bytes: largest download accepted.
            reserve_step_bytes: room reserved at a time while the size is unknown.
            tls: settings for https; None: the system's authorities and those of ``limits``, TLS 1.2 or newer.
            slots_file: file by which all processes of this machine keep to ``limits.connections_per_host``;
                None: no such limit.
            waiting: told the host when a download begins to wait for one of these connections.

        Raises:
            ConfigurationRefused: a file of authorities cannot be used.
        """
        self._gate = gate
        self._limits = limits
        self._cap_bytes = image_size_cap_bytes
        self._step_bytes = reserve_step_bytes
        proxy = Proxy.from_url(limits.proxy_url.get_secret_value())
        behind_proxy = None if tls or proxy is None else _tls(limits, proxied=True)
        self._line = Line(tls or _tls(limits, proxied=False), limits, proxy, behind_proxy)
        limited = slots_file is not None and limits.connections_per_host
        self._slots = (
            ConnectionSlots(slots_file, limits.connections_per_host, waiting) if slots_file and limited else None
        )

    def fetch(
        self,
        uri: str,
        path: Path,
        *,
        resume: Validators | None,
        remember: Callable[[Validators], None],
        reserve: Reserve,
        progress: Progress,
        stop: StopToken,
        private: Mapping[str, str] | None = None,
        pinned: str = "",
    ) -> Downloaded:
        """Bring the source into the file at ``path``; makes one attempt.

        A large source of a server that serves ranges comes over several connections at once, into
        a sparse file whose finished ranges stand in ``<path>.ranges`` until it is whole. With
        strong validators and bytes in the file the rest alone is asked for, and taken only if the
        server proves that it is of the same version; otherwise it starts over. A source that
        changes while its ranges come is begun afresh, in one stream: one answer is of one version.

        Args:
            uri: as the caller gave it; may hold secrets, which no error repeats.
            path: the ``.part`` file; made if missing.
            resume: validators of the bytes that the file holds; None: start from zero.
            remember: called with the validators of a fresh start, when the file is empty and before its first byte.
            reserve: called with the file's size before it grows so far.
            progress: called at most four times a second, and once at the end.
            stop: checked per chunk and ten times a second while waiting.
            private: headers for the origin of ``uri`` alone, e.g. a token; no redirect takes them elsewhere.
            pinned: what else is known to tell this version of the source from any other, e.g. a digest that the
                caller compares in the end; then no validators of the server are needed to resume or to use ranges.

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
        asker = Asker(self._gate, self._line, self._slots, uri, private)
        room = Room(self._cap_bytes, self._step_bytes, reserve)
        with PartFile(path) as part:
            landing = Landing(part, room, self._limits, remember, Teller(progress), asker, watch, pinned)
            return _Attempt(asker, landing, watch).run(resume if resume is None or resume.pinned == pinned else None)

    def read_document(
        self,
        uri: str,
        *,
        private: Mapping[str, str],
        limit_bytes: int,
        stop: StopToken,
    ) -> bytes:
        """Return the whole of a small source, which stands under the same rules as an image.

        Args:
            uri: what to read.
            private: headers for the origin of ``uri`` alone; no redirect takes them elsewhere.
            limit_bytes: longest document accepted.
            stop: checked ten times a second.

        Raises:
            SourceRefused: it is longer, or no usable answer.
            SourceTruncated: it ended before its end.
            TransferFailed, LockLost: as `fetch`.
        """
        watch = Watch(display_uri(uri), self._limits, stop)
        asker = Asker(self._gate, self._line, self._slots, uri, private)
        with asker.answer({"Accept": "application/json"}, watch) as answer:
            document = _read(answer, limit_bytes + 1)
            if len(document) > limit_bytes:
                raise SourceRefused(answer.display, answer.status, f"it is longer than {limit_bytes} bytes")
        return document

    def glimpse(self, uri: str, *, head_bytes: int, tail_bytes: int, stop: StopToken) -> Glimpse:
        """Return how a source begins and ends, without the rest, under the same rules as a download of it.

        Args:
            uri: what to look at; may hold secrets, which no error repeats.
            head_bytes: how much of its beginning.
            tail_bytes: how much of its end; it is asked for as a range, where the server serves those.
            stop: checked ten times a second.

        Raises:
            SourceTruncated: it ended before its end.
            TransferFailed, LockLost: as `fetch`.
        """
        watch = Watch(display_uri(uri), self._limits, stop)
        asker = Asker(self._gate, self._line, self._slots, uri)
        with asker.answer({}, watch) as answer:
            size = answer.framing().length
            head = _read(answer, head_bytes)
            version = validators_of(answer.headers, size, datetime.now(UTC))
        if size is None and len(head) < head_bytes:
            size = len(head)
        if size is None:
            return Glimpse(head, b"", None)
        if size <= len(head):
            return Glimpse(head, head[-tail_bytes:], size)
        return Glimpse(head, _end(asker, Span(max(0, size - tail_bytes), size - 1, size), version, watch), size)


def _end(asker: Asker, wanted: Span, version: Validators, watch: Watch) -> bytes:
    """Return the end of a version of a source; nothing where the server does not serve it alone."""
    headers = range_headers(wanted, version) if version.strong else {"Range": f"bytes={wanted.first}-{wanted.last}"}
    try:
        with asker.answer(headers, watch) as answer:
            if answer.status != HTTPStatus.PARTIAL_CONTENT:
                return b""
            if range_fit(answer.status, answer.headers, answer.framing(), wanted, version) is not Fit.FITS:
                return b""
            length = wanted.last - wanted.first + 1
            end = _read(answer, length)
            return end if len(end) == length else b""
    except (SourceBusy, SourceRefused, SourceTruncated, SourceUnreachable) as failed:
        log.info("end of the source not read", uri=watch.uri, reason=str(failed))
        return b""


def _read(answer: Exchange, limit_bytes: int) -> bytes:
    """Return the first bytes of an answer's body: all of it when it is not longer.

    Raises:
        SourceTruncated: it ended before its end.
    """
    read = bytearray()
    buffer = memoryview(bytearray(64 * 1024))
    try:
        while len(read) < limit_bytes and (length := answer.read_into(buffer)):
            read += buffer[:length]
    except WireBroken as broken:
        raise SourceTruncated(answer.display, answer.framing().length or 0, len(read)) from broken
    return bytes(read[:limit_bytes])


class _Attempt:
    """Goes on with what is there, and starts over where that is no use: in one stream when ranges did not fit."""

    def __init__(self, asker: Asker, landing: Landing, watch: Watch) -> None:
        self._asker = asker
        self._landing = landing
        self._watch = watch
        self._in_ranges = True

    def run(self, resume: Validators | None) -> Downloaded:
        """Bring the source."""
        beginning = self._landing.beginning(resume)
        if resume is not None and beginning is not None:
            try:
                done = self._go_on(beginning, resume)
            except (SourceChanged, RangesUnusable) as reason:
                self._start_over(reason)
            else:
                if done is not None:
                    return done
        while True:
            try:
                with self._asker.answer({}, self._watch) as answer:
                    return self._landing.afresh(answer, in_ranges=self._in_ranges)
            except (SourceChanged, RangesUnusable) as reason:
                self._start_over(reason)

    def _start_over(self, reason: SourceChanged | RangesUnusable) -> None:
        # Also a source that changed: one whose machines name the same file differently would change for ever.
        log.info("starting over in one stream", uri=reason.uri, reason=type(reason).__name__)
        self._in_ranges = False

    def _go_on(self, beginning: Beginning, known: Validators) -> Downloaded | None:
        """Bring what is missing; None when the server does not let us and the connection is of no use."""
        if beginning.finished is not None:
            return self._go_on_in_ranges(beginning.finished, known)
        offset = beginning.size_bytes
        with self._asker.answer(known.headers(f"bytes={offset}-"), self._watch) as answer:
            if answer.status == 206:
                total = continued_total(answer.headers, answer.framing(), offset, known)
                if total is not None:
                    return self._landing.go_on(answer, offset, total, known)
            # 416 comes only if the validator still matches (RFC 9110, section 13.2.2), so the file is whole.
            if answer.status == 416 and known.total_bytes is None and whole_size_of(answer.headers) == offset:
                return self._landing.already_whole(answer, offset, known)
            total = known.total_bytes or answer.framing().length or 0
            return self._instead(answer, Span(offset, max(offset, total - 1), total), known)

    def _go_on_in_ranges(self, finished: Finished, known: Validators) -> Downloaded | None:
        plan = finished.plan
        done = dict(finished.done)
        missing = [index for index in range(plan.count) if done.get(index, 0) < plan.length(index)]
        if not missing:
            # The last byte is asked for again: only so the validators are compared.
            missing = [plan.count - 1]
            done[plan.count - 1] -= 1
        index = missing[0]
        first = plan.first(index) + done.get(index, 0)
        wanted = Span(first, plan.first(index) + plan.length(index) - 1, plan.total_bytes)
        with self._asker.answer(range_headers(wanted, known), self._watch) as answer:
            if answer.status == 206:
                fit = range_fit(answer.status, answer.headers, answer.framing(), wanted, known)
                if fit is Fit.FITS:
                    return self._landing.go_on_in_ranges(answer, first, Finished(plan, done), known)
            return self._instead(answer, wanted, known)

    def _instead(self, answer: Exchange, wanted: Span, known: Validators) -> Downloaded | None:
        """Start over on an answer that is not what was asked for, if it is the whole source; else return None."""
        fit = range_fit(answer.status, answer.headers, answer.framing(), wanted, known)
        log.info("source does not continue, starting over", uri=answer.display, status=answer.status, fit=fit)
        if fit is not Fit.CHANGED:
            self._in_ranges = False
        return self._landing.afresh(answer, in_ranges=self._in_ranges) if answer.status in WHOLE else None


def refuse_bad_authorities(limits: DownloadSettings) -> None:
    """Read the files of authorities as a download would.

    Raises:
        ConfigurationRefused: one of them cannot be used.
    """
    _tls(limits, proxied=True)


def _tls(limits: DownloadSettings, *, proxied: bool) -> ssl.SSLContext:
    option = "download.ca_file"
    try:
        context = client_tls(*([limits.ca_file] if limits.ca_file else []))
        option = "download.proxy_ca_file"
        if proxied and limits.proxy_ca_file:
            context.load_verify_locations(cafile=limits.proxy_ca_file)
    except OSError as error:
        reason = f"it cannot be read, or holds no certificate in PEM form ({error.strerror or error})"
        raise ConfigurationRefused("settings", option, reason) from error
    return context
