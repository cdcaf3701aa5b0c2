"""What an HTTP answer's head says, and whether a download may believe it. Nothing here reads a socket."""

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
"""Answers that time alone may change."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Redirects that are followed; 300 and 304 are none for a plain GET."""

WHOLE: Final = frozenset({200, 203})
"""Answers that hold the whole source; 203 is what a proxy between says of a 200 that it passes on."""

SNIFF_BYTES: Final = 512
"""Bytes of the body that are looked at for a web page."""

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
"""Words that name a coding: those registered with IANA, then others in use; each may have ``x-`` before it.

Every other word changes nothing: servers put charsets, media types and MIME's encodings there. So does aws-chunked,
which is how the data came to an S3 store: it keeps the word with the object and gives the plain data out.
"""

_DIGEST_BYTES: Final = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16}
"""Algorithms that are compared, strongest first, with the bytes of their digests."""

_DIGEST_NAMES: Final = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "": "md5"}
_DIGEST_HEADERS: Final = {
    "Repr-Digest": re.compile(r"([A-Za-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):"),
    "Content-Digest": re.compile(r"([A-Za-z0-9*_.-]+)=:([A-Za-z0-9+/=]*):"),
    "Digest": re.compile(r"([A-Za-z0-9-]+)=([A-Za-z0-9+/]+={0,2})"),
    "Content-MD5": re.compile(r"^\s*()([A-Za-z0-9+/]+={0,2})\s*$"),
}
"""Headers that name a digest, and how they write it: algorithm and value."""

_OF_PARTS: Final = (
    email_errors.NoBoundaryInMultipartDefect,
    email_errors.StartBoundaryNotFoundDefect,
    email_errors.CloseBoundaryNotFoundDefect,
    email_errors.MultipartInvariantViolationDefect,
    email_errors.InvalidMultipartContentTransferEncodingDefect,
)
"""What Python's mail parser misses in a head that names a multipart type: the body, which it was not given."""

_SETTLED_S: Final = 60
"""Age from which a Last-Modified tells two versions apart (RFC 9110, section 8.8.2.2)."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a source from another.

    Attributes:
        etag: as sent, with quotes; empty when there is none that can be used: a weak one, or one that is malformed.
        last_modified: as sent; empty when there is none, or when it is too young to tell two versions apart.
        total_bytes: size of the whole source, None when it was not announced.
        digest: of the whole source as the server says it, ``sha256:`` and lower-case hex; empty when it says none.
        pinned: what tells it from elsewhere, e.g. the digest of an image that cannot change; then the server need
            say nothing. Empty when nothing does.
    """

    etag: str = ""
    last_modified: str = ""
    total_bytes: int | None = None
    pinned: str = ""
    digest: str = ""

    @property
    def strong(self) -> bool:
        """Whether a broken download may be resumed with these."""
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
    """How the end of a body is known.

    Attributes:
        length: bytes announced; None when the end is marked otherwise.
        chunked: the end is marked by the last chunk; else, without a length, by the connection's close.
    """

    length: int | None
    chunked: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a source that an answer holds: bytes ``first`` to ``last`` of ``total``."""

    first: int
    last: int
    total: int


def is_interim(status_line: bytes) -> bool:
    """Whether a status line begins an answer before the real one, which a client that awaits none passes over.

    101 is none of them: what follows it is another protocol, and nobody asked for one.

    Source: RFC 9110, section 15.2.
    """
    return _INTERIM.match(status_line) is not None


def is_stray_line(line: bytes) -> bool:
    """Whether a line of a head is no header and cannot have been meant as one that matters here.

    Such a line says nothing and may be left out. One that could be a spoilt header of the body's end, coding,
    range or version is not stray: what it was meant to say would be lost.
    """
    text = line.strip(b"\r\n")
    if not text or text.startswith((b"HTTP/", b" ", b"\t")) or _HEADER.match(text):
        return False
    return not any(word in text.lower() for word in _FRAMES)


def framing_of(uri: str, status: int, headers: Message) -> Framing:
    """Return how the body ends.

    Raises:
        SourceRefused: the head is malformed or contradicts itself, or the body is encoded.
    """
    if not all(isinstance(defect, _OF_PARTS) for defect in headers.defects):
        raise SourceRefused(uri, status, f"its headers are malformed{_malformed_line(headers)}")
    encodings = [word for word in _codings(headers, "Content-Encoding") if _names_coding(word)]
    if encodings:
        reason = f"it sends the data encoded ({_shown(', '.join(encodings))}), although the plain data were asked for"
        raise SourceRefused(uri, status, reason)
    lengths = {part.strip() for value in _all(headers, "Content-Length") for part in value.split(",")}
    # A word that may be a spoilt "chunked" counts too: to take chunks for plain data would spoil these.
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
    """Return the whole source as a range if an answer is a 206 that holds just that; None for other answers.

    Some servers answer so to a request for no range.
    """
    span = span_of(headers) if status == 206 else None
    return span if span is not None and (span.first, span.last) == (0, span.total - 1) else None


def total_of(uri: str, status: int, headers: Message, framing: Framing) -> int | None:
    """Return the size of the whole source, which an answer holds; None when it is not announced.

    Raises:
        SourceRefused: a 206 announces another length than that of its range.
    """
    whole = whole_part(status, headers)
    if whole is not None and framing.length not in (None, whole.total):
        raise SourceRefused(uri, status, "it announces two different lengths")
    return framing.length if whole is None else whole.total


def validators_of(headers: Message, total_bytes: int | None, now: datetime) -> Validators:
    """Return the validators of a complete answer.

    Args:
        headers: of an answer that holds the whole.
        total_bytes: its announced size.
        now: UTC; stands in for a missing ``Date``.
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
    """Return the strongest digest that the head of a whole answer names, as `Validators.digest` has it.

    Values that make no sense are ignored, as are algorithms that are no more than a sum.

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
    """Return a digest in lower-case hex, from base64 or hex; empty when it is none."""
    length = _DIGEST_BYTES[algorithm]
    if re.fullmatch(f"[0-9A-Fa-f]{{{2 * length}}}", value):
        return value.lower()
    try:
        digest = b64decode(value, validate=True)
    except ValueError:
        return ""
    return digest.hex() if len(digest) == length else ""


def span_of(headers: Message) -> Span | None:
    """Return what ``Content-Range`` says, None when it is missing, open-ended or makes no sense."""
    match = _CONTENT_RANGE.fullmatch(str(headers.get("Content-Range", "")).strip())
    if match is None:
        return None
    span = Span(int(match[1]), int(match[2]), int(match[3]))
    return span if span.first <= span.last < span.total else None


def whole_size_of(headers: Message) -> int | None:
    """Return the size of the source that a 416 states, None when it states none."""
    match = _UNSATISFIED.fullmatch(str(headers.get("Content-Range", "")).strip())
    return None if match is None else int(match[1])


def continued_total(headers: Message, framing: Framing, offset: int, resume: Validators) -> int | None:
    """Return the size of the whole source if a 206 holds exactly the rest of the version that ``resume`` names.

    Args:
        headers: of the 206.
        framing: how its body ends.
        offset: byte from which the rest was asked for; it must reach to the end.
        resume: what is known of the bytes before.
    """
    span = span_of(headers)
    if span is None or (span.first, span.last) != (offset, span.total - 1):
        return None
    if not _announces(framing, span) or resume.total_bytes not in (None, span.total):
        return None
    return span.total if _same_version(headers, resume) else None


class Fit(StrEnum):
    """How an answer to a request for one range fits what the file holds."""

    FITS = "fits"
    CHANGED = "changed"  # it is of another version
    UNUSABLE = "unusable"  # the server does not do ranges, or does them wrongly


def range_fit(status: int, headers: Message, framing: Framing, wanted: Span, known: Validators) -> Fit:
    """Return how an answer to ``Range: bytes=first-last`` with ``If-Range`` fits.

    Args:
        status: 200, 206 or 416.
        headers: of the answer.
        framing: how its body ends.
        wanted: the bytes that were asked for, and the known size of the whole.
        known: of the version that the file holds.
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
    """Whether a body is announced to be as long as its range.

    In chunks, or up to the connection's end, the whole source may come instead, and only its end would show that.
    """
    return framing.length == span.last - span.first + 1


def takes_ranges(headers: Message) -> bool:
    """Whether a server says that it can send parts."""
    words = {word.strip().lower() for value in _all(headers, "Accept-Ranges") for word in value.split(",")}
    return "bytes" in words


def _same_version(headers: Message, known: Validators) -> bool:
    """Whether an answer does not contradict validators; it need not repeat them."""
    return all(
        not before or not sent or before == sent
        for before, sent in (
            (_opaque(known.etag), _opaque(str(headers.get("ETag", "")))),
            (known.last_modified, str(headers.get("Last-Modified", "")).strip()),
        )
    )


def _opaque(etag: str) -> str:
    """Return what an ETag names, whatever it is worth and however it is quoted."""
    return etag.strip().removeprefix("W/").strip('"')


def failure_of(uri: str, status: int, headers: Message, cap_s: float, now: datetime) -> TransferFailed:
    """Return the error that an answer other than data or a redirect means.

    Args:
        uri: for display.
        status: HTTP status.
        headers: may hold ``Retry-After``.
        cap_s: longest wait that is granted, seconds.
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
    """Return the seconds that a ``Retry-After`` asks for, from 0 to ``cap_s``; None when it makes no sense."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(cap_s, float(text[:12]))
    moment = _date(text)
    return None if moment is None else min(cap_s, max(0.0, (moment - now).total_seconds()))


def content_type_of(headers: Message) -> str:
    """Return the media type that the headers name, lower case, without parameters; empty when there is none."""
    return _shown(str(headers.get("Content-Type", "")).partition(";")[0].strip().lower())


def is_page_type(content_type: str) -> bool:
    """Whether a media type says that the body is a web page."""
    return content_type in ("text/html", "application/xhtml+xml")


def begins_like_page(start: bytes) -> bool:
    """Whether the first bytes of a body are those of a web page."""
    return _PAGE_START.match(start.removeprefix(b"\xef\xbb\xbf")) is not None


def _malformed_line(headers: Message) -> str:
    """Return the line at which the parser gave up, in words; it and all behind it are the message's body then."""
    rest = headers.get_payload()
    line = rest.partition("\n")[0].strip() if isinstance(rest, str) else ""
    return f": {_shown(line)!r} is no header" if line else ""


def _codings(headers: Message, name: str) -> list[str]:
    """Return the words of a list of codings, lower case."""
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
