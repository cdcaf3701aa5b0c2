"""Interpret the head of an HTTP response and decide whether a download may trust it. Nothing here reads a socket."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from email import errors as email_errors
from email.message import Message
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from transship.domain.errors import SourceBusy, SourceRefused, TransferFailed

BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of transient failures."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Redirects that are followed; for a plain GET, 300 and 304 are not redirects."""

WHOLE: Final = frozenset({200, 203})
"""Statuses of responses that hold the whole source; an intermediate proxy may turn a 200 into a 203."""

SNIFF_BYTES: Final = 512
"""Leading bytes of the body that are checked for a web page."""

_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.IGNORECASE)
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,19})", re.IGNORECASE)
_LENGTH: Final = re.compile(r"[0-9]{1,19}")
_PAGE_START: Final = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script|title|meta)\b", re.IGNORECASE | re.DOTALL
)
_INTERIM: Final = re.compile(rb"HTTP/1\.\d[ \t]+1(?!01)\d\d(?!\d)")
_HEADER: Final = re.compile(rb"[!-9;-~]+:")
_FRAMES: Final = (b"content", b"length", b"encoding", b"transfer", b"range", b"etag", b"modified", b"location")
_CODINGS: Final = frozenset(
    {
        *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "zstd"),
        *("brotli", "bzip2", "lz4", "lzip", "lzma", "sdch", "snappy", "xpress", "xz", "zlib"),
    }
)
"""Words that name a coding: those registered with IANA, then others in use; each may be prefixed with ``x-``.

All other words are ignored: servers put charsets, media types and MIME encodings there. aws-chunked is ignored too:
S3 keeps the word from the upload with the object but serves the plain data.
"""

_DIGEST_BYTES: Final = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16}
"""Algorithms that are compared, strongest first, with their digest sizes in bytes."""

_DIGEST_NAMES: Final = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "": "md5"}
_DIGEST_HEADERS: Final = {
    "Repr-Digest": re.compile(r"([A-Za-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):"),
    "Content-Digest": re.compile(r"([A-Za-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):"),
    "Digest": re.compile(r"([A-Za-z0-9-]+)=([A-Za-z0-9+/]+={0,2})"),
    "Content-MD5": re.compile(r"^\s*()([A-Za-z0-9+/]+={0,2})\s*$"),
}
"""Headers that carry a digest, and how each writes algorithm and value."""

_OF_PARTS: Final = (
    email_errors.NoBoundaryInMultipartDefect,
    email_errors.StartBoundaryNotFoundDefect,
    email_errors.CloseBoundaryNotFoundDefect,
    email_errors.MultipartInvariantViolationDefect,
    email_errors.InvalidMultipartContentTransferEncodingDefect,
)
"""Defects that Python's mail parser reports for a multipart type only because it is given no body."""

_SETTLED_S: Final = 60
"""Age at which a Last-Modified becomes a strong validator (RFC 9110, section 8.8.2.2)."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What distinguishes one version of a source from another.

    Attributes:
        etag: as sent, with quotes; empty when missing, weak or malformed.
        last_modified: as sent; empty when missing, or too recent to distinguish two versions.
        total_bytes: size of the whole source; None when it was not announced.
        digest: of the whole source as the server states it, e.g. ``sha256:`` and lower-case hex; empty when not stated.
        pinned: what identifies the version independently of the server, e.g. the digest of an immutable image; no
            validators of the server are needed then. Empty when nothing does.
    """

    etag: str = ""
    last_modified: str = ""
    total_bytes: int | None = None
    pinned: str = ""
    digest: str = ""

    @property
    def strong(self) -> bool:
        """Whether an interrupted download may be resumed with these."""
        return bool(self.pinned or self.if_range)

    def headers(self, ranges: str) -> dict[str, str]:
        """Return the headers that ask for bytes of this version.

        Args:
            ranges: value of the ``Range`` header.
        """
        return {"Range": ranges, **({} if self.pinned else {"If-Range": self.if_range})}

    def headers_for(self, span: Span) -> dict[str, str]:
        """Return the headers that ask for one part of this version."""
        return self.headers(f"bytes={span.first}-{span.last}")

    @property
    def if_range(self) -> str:
        """Value for an ``If-Range`` header; empty when neither validator is strong."""
        if _STRONG_ETAG.fullmatch(self.etag):
            return self.etag
        return "" if _date(self.last_modified) is None else self.last_modified


@dataclass(frozen=True, slots=True)
class Framing:
    """How the end of a body is marked.

    Attributes:
        length: announced bytes; None when the end is marked in another way.
        chunked: the last chunk marks the end. Without this and without a length, closing the connection does.
    """

    length: int | None
    chunked: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a source that a response holds: bytes ``first`` to ``last`` of ``total``."""

    first: int
    last: int
    total: int


def is_interim(status_line: bytes) -> bool:
    """Whether a status line begins an interim response, which a client skips.

    101 does not count: another protocol follows it, and none was requested.

    Source: RFC 9110, section 15.2.
    """
    return _INTERIM.match(status_line) is not None


def is_stray_line(line: bytes) -> bool:
    """Whether a line of a head is not a header and cannot be a damaged header that matters here.

    Such a line may be ignored. A line that could be a damaged header about the body's end, coding, range or version
    is not stray: ignoring it would lose its meaning.
    """
    text = line.strip(b"\r\n")
    if not text or text.startswith((b"HTTP/", b" ", b"\t")) or _HEADER.match(text):
        return False
    return not any(word in text.lower() for word in _FRAMES)


def framing_of(uri: str, status: int, headers: Message) -> Framing:
    """Return how the body ends.

    Raises:
        SourceRefused: the head is malformed or contradictory, or the body is encoded.
    """
    if not all(isinstance(defect, _OF_PARTS) for defect in headers.defects):
        raise SourceRefused(uri, status, f"its headers are malformed{_malformed_line(headers)}")
    encodings = [word for word in _codings(headers, "Content-Encoding") if _names_coding(word)]
    if encodings:
        reason = f"it sends the data encoded ({_shown(', '.join(encodings))}), although the plain data were asked for"
        raise SourceRefused(uri, status, reason)
    lengths = {part.strip() for value in _all(headers, "Content-Length") for part in value.split(",")}
    # A word that may be a damaged "chunked" counts too: reading chunks as plain data would corrupt the data.
    transfer = [word for word in _codings(headers, "Transfer-Encoding") if _names_coding(word) or "chunk" in word]
    if transfer:
        if transfer != ["chunked"]:
            raise SourceRefused(uri, status, f"transfer encoding {_shown(', '.join(transfer))} is not supported")
        if lengths:
            raise SourceRefused(uri, status, "it announces a length and chunks, which contradict each other")
        return Framing(None, chunked=True)
    if not lengths:
        return Framing(None, chunked=False)
    if len(lengths) > 1:
        raise SourceRefused(uri, status, "it announces two different lengths")
    length = lengths.pop()
    if not _LENGTH.fullmatch(length):
        raise SourceRefused(uri, status, f"it announces a length that is none ({_shown(length)})")
    return Framing(int(length), chunked=False)


def whole_part(status: int, headers: Message) -> Span | None:
    """Return the range of a 206 that holds the whole source; None for other responses.

    Some servers send such a response although no range was requested.
    """
    span = span_of(headers) if status == 206 else None
    return span if span is not None and (span.first, span.last) == (0, span.total - 1) else None


def total_of(uri: str, status: int, headers: Message, framing: Framing) -> int | None:
    """Return the size of the source for a response that holds all of it; None when it is not announced.

    Raises:
        SourceRefused: a 206 announces a length that differs from its range's.
    """
    whole = whole_part(status, headers)
    if whole is not None and framing.length not in (None, whole.total):
        raise SourceRefused(uri, status, "it announces two different lengths")
    return framing.length if whole is None else whole.total


def validators_of(headers: Message, total_bytes: int | None, now: datetime) -> Validators:
    """Return the validators of a complete response.

    Args:
        headers: of a response that holds the whole source.
        total_bytes: its announced size.
        now: UTC; replaces a missing ``Date``.
    """
    etag = str(headers.get("ETag", "")).strip()
    if not _STRONG_ETAG.fullmatch(etag):
        etag = ""
    last_modified = str(headers.get("Last-Modified", "")).strip()
    changed = _date(last_modified)
    sent = _date(str(headers.get("Date", ""))) or now
    if changed is None or (sent - changed).total_seconds() < _SETTLED_S:
        last_modified = ""
    return Validators(etag, last_modified, total_bytes, digest=digest_of(headers))


def digest_of(headers: Message) -> str:
    """Return the strongest digest in the head of a complete response, in the form of `Validators.digest`.

    Invalid values are ignored, as are mere checksums.

    Source: RFC 9530 (``Repr-Digest``, ``Content-Digest``), RFC 3230 (``Digest``), RFC 1864 (``Content-MD5``, which
    Glance writes in hex).
    """
    found: dict[str, str] = {}
    for name, pattern in _DIGEST_HEADERS.items():
        for word, value in pattern.findall(", ".join(_all(headers, name))):
            algorithm = _DIGEST_NAMES.get(word.lower().removeprefix("id-"), "")
            if algorithm and (digest := _hex_of(value, algorithm)):
                found.setdefault(algorithm, digest)
    return next((f"{algorithm}:{found[algorithm]}" for algorithm in _DIGEST_BYTES if algorithm in found), "")


def _hex_of(value: str, algorithm: str) -> str:
    """Return a digest in lower-case hex, from base64 or hex; empty when it is not a digest."""
    length = _DIGEST_BYTES[algorithm]
    if re.fullmatch(f"[0-9A-Fa-f]{{{2 * length}}}", value):
        return value.lower()
    try:
        digest = b64decode(value, validate=True)
    except ValueError:
        return ""
    return digest.hex() if len(digest) == length else ""


def span_of(headers: Message) -> Span | None:
    """Return the range in ``Content-Range``; None when it is missing, open-ended or invalid."""
    match = _CONTENT_RANGE.fullmatch(str(headers.get("Content-Range", "")).strip())
    if match is None:
        return None
    span = Span(int(match[1]), int(match[2]), int(match[3]))
    return span if span.first <= span.last < span.total else None


def whole_size_of(headers: Message) -> int | None:
    """Return the size of the source that a 416 states; None when it states none."""
    match = _UNSATISFIED.fullmatch(str(headers.get("Content-Range", "")).strip())
    return None if match is None else int(match[1])


def continued_total(headers: Message, framing: Framing, offset: int, resume: Validators) -> int | None:
    """Return the size of the whole source if a 206 holds exactly the rest of the version that ``resume`` names.

    Args:
        headers: of the 206.
        framing: how its body ends.
        offset: first byte of the requested rest, which must reach to the end.
        resume: validators of the bytes before ``offset``.
    """
    span = span_of(headers)
    if span is None or (span.first, span.last) != (offset, span.total - 1):
        return None
    if not _announces(framing, span) or resume.total_bytes not in (None, span.total):
        return None
    return span.total if _same_version(headers, resume) else None


class Fit(StrEnum):
    """How the response to a request for one range fits what the file holds."""

    FITS = "fits"
    CHANGED = "changed"  # it holds another version
    UNUSABLE = "unusable"  # the server does not support ranges, or serves them incorrectly


def range_fit(status: int, headers: Message, framing: Framing, wanted: Span, known: Validators) -> Fit:
    """Return how the response to ``Range: bytes=first-last`` with ``If-Range`` fits.

    Args:
        status: 200, 206 or 416.
        headers: of the response.
        framing: how its body ends.
        wanted: the requested bytes, and the known size of the source.
        known: validators of the version that the file holds.
    """
    span = span_of(headers)
    if status == 206:
        if span is None:
            return Fit.UNUSABLE
        if span.total != wanted.total or not _same_version(headers, known):
            return Fit.CHANGED
        return Fit.FITS if span == wanted and _announces(framing, span) else Fit.UNUSABLE
    total = whole_size_of(headers) if status == 416 else framing.length
    other_size = total is not None and total != wanted.total
    return Fit.CHANGED if other_size or not _same_version(headers, known) else Fit.UNUSABLE


def _announces(framing: Framing, span: Span) -> bool:
    """Whether the announced length of a body is that of its range.

    A body in chunks or without a length may hold the whole source instead, which only its end would show.
    """
    return framing.length == span.last - span.first + 1


def takes_ranges(headers: Message) -> bool:
    """Whether a server announces that it supports ranges."""
    words = {word.strip().lower() for value in _all(headers, "Accept-Ranges") for word in value.split(",")}
    return "bytes" in words


def _same_version(headers: Message, known: Validators) -> bool:
    """Whether a response is compatible with the validators; it need not repeat them."""
    return all(
        not before or not sent or before == sent
        for before, sent in (
            (_opaque(known.etag), _opaque(str(headers.get("ETag", "")))),
            (known.last_modified, str(headers.get("Last-Modified", "")).strip()),
        )
    )


def _opaque(etag: str) -> str:
    """Return an ETag without its quotes and its mark of weakness."""
    return etag.strip().removeprefix("W/").strip('"')


def failure_of(uri: str, status: int, headers: Message, cap_s: float, now: datetime) -> TransferFailed:
    """Return the error for a response that is neither data nor a redirect.

    Args:
        uri: for display.
        status: HTTP status.
        headers: may hold ``Retry-After``.
        cap_s: longest wait that is honoured, in seconds.
        now: UTC.
    """
    if status in BUSY:
        return SourceBusy(uri, status, retry_after_s(str(headers.get("Retry-After", "")), cap_s, now))
    if status == 206:
        return SourceRefused(uri, status, "it sends a part that was not asked for")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "an answer that is no image"
    return SourceRefused(uri, status, phrase)


def retry_after_s(value: str, cap_s: float, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` requests, from 0 to ``cap_s``; None when it is invalid."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(cap_s, float(text[:12]))
    moment = _date(text)
    return None if moment is None else min(cap_s, max(0.0, (moment - now).total_seconds()))


def content_type_of(headers: Message) -> str:
    """Return the media type in lower case, without parameters; empty when the headers name none."""
    return _shown(str(headers.get("Content-Type", "")).partition(";")[0].strip().lower())


def is_page_type(content_type: str) -> bool:
    """Whether a media type denotes a web page."""
    return content_type in ("text/html", "application/xhtml+xml")


def begins_like_page(start: bytes) -> bool:
    """Whether the first bytes of a body are those of a web page."""
    return _PAGE_START.match(start.removeprefix(b"\xef\xbb\xbf")) is not None


def _malformed_line(headers: Message) -> str:
    """Describe the line at which the parser stopped; the parser keeps that line and the rest as the message's body."""
    rest = headers.get_payload()
    line = rest.partition("\n")[0].strip() if isinstance(rest, str) else ""
    return f": {_shown(line)!r} is no header" if line else ""


def _codings(headers: Message, name: str) -> list[str]:
    """Return the words of a list of codings in lower case."""
    return [word.strip(" \t\"'").lower() for value in _all(headers, name) for word in value.split(",")]


def _names_coding(word: str) -> bool:
    return word.partition(";")[0].strip().removeprefix("x-") in _CODINGS


def _all(headers: Message, name: str) -> list[str]:
    return [str(value) for value in headers.get_all(name, [])]


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:60])


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
