"""The HTTP download engine: one attempt to download a source into a ``.part`` file, which can be resumed.

It follows redirects itself and passes each through the gate, dials only judged addresses, checks every announcement
against the bytes, and ends in bounded time no matter what the server does.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    SourceBusy,
    SourceChanged,
    SourceRefused,
    SourceTruncated,
    SourceUnreachable,
)
from transship.domain.stop import StopToken
from transship.sources.answer import Fit, Span, Validators, range_fit, validators_of
from transship.sources.client import SourceClient, SourceRequest
from transship.sources.connection import Connection
from transship.sources.dialling import ConnectionBroken
from transship.sources.download import Download, Downloaded, PartTarget, Progress, Reserve, SizeLimits
from transship.sources.gate import UriGate
from transship.sources.parallel import RangesUnusable
from transship.sources.part import PartFile
from transship.sources.reading import RangeReader, size_of_source
from transship.sources.slots import ConnectionSlots
from transship.sources.transport import Transport
from transship.sources.watch import Watch

__all__ = ["Downloaded", "PartTarget", "Peek", "Progress", "Reserve", "SourceRequest", "Validators", "WebSource"]

log = structlog.get_logger(__name__)

RESERVE_STEP_BYTES: Final = 1024 * 1024 * 1024
"""Bytes of room reserved at a time while the size is unknown."""


@dataclass(frozen=True, slots=True)
class Peek:
    """The beginning and the end of a source.

    Attributes:
        head: its first bytes.
        tail: its last bytes; empty when the server does not serve them separately.
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
            gate: judges the URI and each redirect.
            limits: times, speeds, connections, authorities, proxy.
            image_size_cap_bytes: largest download accepted.
            reserve_step_bytes: room reserved at a time while the size is unknown.
            tls: settings for https; None: the system's authorities and those of ``limits``, TLS 1.2 or newer.
            slots_file: file through which all processes of this machine share ``limits.connections_per_host``;
                None: no such limit.
            waiting: called with the host when a download begins to wait for one of these connections.

        Raises:
            ConfigurationRefused: a file of authorities cannot be used.
        """
        self._gate = gate
        self._limits = limits
        self._sizes = SizeLimits(image_size_cap_bytes, reserve_step_bytes)
        self._transport = Transport(limits, tls)
        limited = slots_file is not None and limits.connections_per_host
        self._slots = (
            ConnectionSlots(slots_file, limits.connections_per_host, waiting) if slots_file and limited else None
        )

    def fetch(self, source: SourceRequest, target: PartTarget, stop: StopToken) -> Downloaded:
        """Download a source into a part file; makes one attempt.

        If the server supports ranges, a large source is downloaded over several connections into a sparse file, and
        ``<path>.ranges`` records the finished ranges until the file is complete. If the file holds bytes and there are
        strong validators, only the rest is requested, and used only if the server proves that the version is the same;
        otherwise the download starts over. If the source changes while its ranges are downloaded, the download starts
        over in one stream: a single response holds a single version.

        Args:
            source: what to download.
            target: where to write it.
            stop: checked per chunk and ten times a second while waiting.

        Raises:
            SourceNotAccepted, RedirectRefused: the gate refused the URI or a redirect.
            SourceUnreachable, SourceUntrusted, SourceBusy, SourceRefused: no usable response.
            SourceTruncated, SourceTooLong, SourceEmpty: the size differs from the announced one, or is zero.
            SourceTooSlow, SourceTookTooLong, ImageTooLarge: a limit was exceeded.
            StagingFull, StagingBroken: staging is full or broken.
            LockLost, ImportStopped: asked to stop.

            The received bytes stay in the file; a later attempt can resume with the remembered validators.
        """
        client, watch = self._asked(source, stop)
        with PartFile(target.path) as part:
            download = Download(client, target, part, self._sizes, self._limits, watch, source.pinned)
            known = target.resume
            while True:
                try:
                    with ExitStack() as undo:
                        body, rest = None, download.rest(known)
                        if rest is not None:
                            answer = undo.enter_context(client.get(rest.headers, watch))
                            body = download.continued(answer, rest)
                        if body is None:
                            undo.close()
                            body = download.afresh(undo.enter_context(client.get({}, watch)))
                        if body.ranges is not None:
                            download.fill_in_ranges(body, body.ranges)
                        elif body.missing:
                            download.fill(body)
                        return download.downloaded(body)
                except (SourceChanged, RangesUnusable) as reason:
                    download.start_over(reason)
                    known = None

    def read_document(self, source: SourceRequest, limit_bytes: int, stop: StopToken) -> bytes:
        """Return a whole small source, under the same rules as an image.

        Args:
            source: what to read.
            limit_bytes: longest document accepted.
            stop: checked ten times a second.

        Raises:
            SourceRefused: it is longer, or no usable answer.
            SourceTruncated: it ended before its end.
            TransferFailed, LockLost: as `fetch`.
        """
        client, watch = self._asked(source, stop)
        with client.get({"Accept": "application/json"}, watch) as answer:
            document = _read(answer, limit_bytes + 1)
            if len(document) > limit_bytes:
                raise SourceRefused(answer.display, answer.status, f"it is longer than {limit_bytes} bytes")
        return document

    def peek(self, source: SourceRequest, head_bytes: int, tail_bytes: int, stop: StopToken) -> Peek:
        """Return the beginning and the end of a source, under the same rules as a download.

        Args:
            source: what to read.
            head_bytes: size of the beginning.
            tail_bytes: size of the end, which is requested as a range if the server supports ranges.
            stop: checked ten times a second.

        Raises:
            SourceTruncated: it ended before its end.
            TransferFailed, LockLost: as `fetch`.
        """
        client, watch = self._asked(source, stop)
        with client.get({}, watch) as answer:
            size = answer.framing().length
            head = _read(answer, head_bytes)
            version = validators_of(answer.headers, size, datetime.now(UTC))
        if size is None and len(head) < head_bytes:
            size = len(head)
        if size is None:
            return Peek(head, b"", None)
        if size <= len(head):
            return Peek(head, head[-tail_bytes:], size)
        return Peek(head, _end(client, Span(max(0, size - tail_bytes), size - 1, size), version, watch), size)

    def size(self, source: SourceRequest, stop: StopToken) -> int:
        """Return the size of a source in bytes.

        Raises:
            SourceRefused: no usable answer, or the server announces no size.
            TransferFailed, LockLost: as `fetch`.
        """
        return size_of_source(*self._asked(source, stop))

    def read(
        self, source: SourceRequest, stop: StopToken, offset: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        """Yield a range of a source without writing a file; see `RangeReader.pieces`.

        Args:
            source: what to read.
            stop: checked ten times a second while waiting.
            offset: first byte.
            length: bytes; None: to the end.

        Raises:
            SourceChanged: it broke off, and has changed since.
            TransferFailed, LockLost: as `fetch`.
        """
        return RangeReader(*self._asked(source, stop), offset, length).pieces()

    def _asked(self, source: SourceRequest, stop: StopToken) -> tuple[SourceClient, Watch]:
        watch = Watch(source.display, self._limits, stop)
        return SourceClient(self._gate, self._transport, self._slots, source), watch


def _end(client: SourceClient, wanted: Span, version: Validators, watch: Watch) -> bytes:
    """Return the end of a version of a source; empty if the server does not serve it separately."""
    headers = version.headers_for(wanted) if version.strong else {"Range": f"bytes={wanted.first}-{wanted.last}"}
    try:
        with client.get(headers, watch) as answer:
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


def _read(answer: Connection, limit_bytes: int) -> bytes:
    """Return the first ``limit_bytes`` of a response's body, or all of a shorter one.

    Raises:
        SourceTruncated: the body was cut off.
    """
    read = bytearray()
    buffer = memoryview(bytearray(64 * 1024))
    try:
        while len(read) < limit_bytes and (length := answer.read_into(buffer)):
            read += buffer[:length]
    except ConnectionBroken as broken:
        raise SourceTruncated(answer.display, answer.framing().length or 0, len(read)) from broken
    return bytes(read[:limit_bytes])
