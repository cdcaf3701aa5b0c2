"""Which claims in a response's head are trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message

import pytest

from transship.domain.errors import SourceBusy, SourceRefused
from transship.sources.answer import (
    Framing,
    Span,
    Validators,
    begins_like_page,
    continued_total,
    failure_of,
    framing_of,
    retry_after_s,
    span_of,
    validators_of,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def head(*lines: tuple[str, str]) -> Message:
    headers = Message()
    for name, value in lines:
        headers[name] = value
    return headers


NO_CODINGS = [
    *("utf-8", "UTF-8", "utf8", "iso-8859-1", "binary", "identity", "none", "8bit", "7bit", "base64"),
    *("application/octet-stream", "text/plain; charset=utf-8", "utf-8, binary", "", "raw", "qcow2"),
]
"""What servers write where a coding should stand."""


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        (head(("Content-Length", "5")), Framing(5, False)),
        (head(("Content-Length", "5"), ("Content-Length", "5")), Framing(5, False)),
        (head(("Content-Length", "5, 5")), Framing(5, False)),
        (head(("Transfer-Encoding", "Chunked")), Framing(None, True)),
        (head(("Content-Encoding", "identity")), Framing(None, False)),
        (head(("Content-Encoding", "none"), ("Content-Length", "5")), Framing(5, False)),
        (head(("Content-Encoding", "aws-chunked"), ("Content-Length", "5")), Framing(5, False)),
        (head(("Content-Encoding", "AWS-Chunked, identity, ")), Framing(None, False)),
        (head(), Framing(None, False)),
        *((head(("Content-Encoding", word), ("Content-Length", "5")), Framing(5, False)) for word in NO_CODINGS),
        *((head(("Transfer-Encoding", word), ("Content-Length", "5")), Framing(5, False)) for word in NO_CODINGS),
        (head(("Transfer-Encoding", "identity")), Framing(None, False)),
        (head(("Transfer-Encoding", "identity, chunked")), Framing(None, True)),
        (head(("Transfer-Encoding", "binary"), ("Transfer-Encoding", "chunked")), Framing(None, True)),
        (head(("Content-Encoding", "UTF-8"), ("Transfer-Encoding", "chunked")), Framing(None, True)),
    ],
)
def test_the_end_of_a_body_is_known_from_the_head(headers: Message, framing: Framing) -> None:
    assert framing_of("u", 200, headers) == framing


CODINGS = [
    "gzip",
    "x-gzip",
    "GZip",
    "br",
    "zstd",
    "deflate",
    "compress",
    "x-compress",
    "xz",
    "bzip2",
    '"gzip"',
    "gzip;q=1",
]
H6 = {
    "negative": head(("Content-Length", "-1")),
    "signed": head(("Content-Length", "+5")),
    "two": head(("Content-Length", "5"), ("Content-Length", "6")),
    "two in one": head(("Content-Length", "5, 6")),
    "text": head(("Content-Length", "many")),
    "empty": head(("Content-Length", "")),
    "huge": head(("Content-Length", "9" * 30)),
    "with chunks": head(("Content-Length", "5"), ("Transfer-Encoding", "chunked")),
    "gzip transfer": head(("Transfer-Encoding", "gzip, chunked")),
    "twice chunked": head(("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")),
    **{f"H11 {word}": head(("Content-Encoding", word)) for word in CODINGS},
    **{f"transfer {word}": head(("Transfer-Encoding", word), ("Content-Length", "5")) for word in CODINGS},
    "transfer spoilt": head(("Transfer-Encoding", "xchunked"), ("Content-Length", "5")),
    "transfer with a parameter": head(("Transfer-Encoding", "chunked;q=1")),
    "H11 beside a charset": head(("Content-Encoding", "utf-8, gzip")),
    "H11 within aws-chunked": head(("Content-Encoding", "aws-chunked,gzip")),
    "H11 twice": head(("Content-Encoding", "identity"), ("Content-Encoding", "br")),
}


@pytest.mark.parametrize("headers", H6.values(), ids=H6.keys())
def test_h6_h11_a_head_that_contradicts_itself_is_refused(headers: Message) -> None:
    with pytest.raises(SourceRefused):
        framing_of("u", 200, headers)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("86400", 120.0),
        ("9" * 400, 120.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 12:00:00 GMT", 120.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("1e3", None),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
    ],
)
def test_h13_retry_after_is_honoured_within_its_cap(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, 120.0, NOW) == seconds


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_h14_busy_answers_may_pass(status: int) -> None:
    failure = failure_of("u", status, head(("Retry-After", "7")), 120, NOW)
    assert isinstance(failure, SourceBusy)
    assert (failure.retryable, failure.retry_after_s) == (True, 7.0)


@pytest.mark.parametrize("status", [204, 206, 300, 304, 401, 403, 404, 410, 416, 451, 501, 505, 299, 599, 101])
def test_h15_other_answers_are_final(status: int) -> None:
    failure = failure_of("u", status, head(), 120, NOW)
    assert isinstance(failure, SourceRefused)
    assert not failure.retryable


OLD, YOUNG = "Thu, 01 Jan 2026 11:00:00 GMT", "Thu, 01 Jan 2026 11:59:30 GMT"

UNUSABLE_ETAGS = ['W/"a"', "W/a", "a", "'a'", '"a', 'a"', '"a"b"', '"a b"', '"\xe4"', 'w/"a"']


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        (head(("ETag", '"a"')), '"a"'),
        (head(("ETag", '"a"'), ("Last-Modified", OLD)), '"a"'),
        (head(("ETag", 'W/"a"')), ""),
        (head(("ETag", "a")), ""),
        (head(("ETag", '"a"b"')), ""),
        *((head(("ETag", etag), ("Last-Modified", OLD)), OLD) for etag in UNUSABLE_ETAGS),
        *((head(("ETag", etag), ("Last-Modified", YOUNG)), "") for etag in UNUSABLE_ETAGS),
        (head(("Last-Modified", OLD)), OLD),
        (head(("Last-Modified", YOUNG)), ""),
        (head(("Last-Modified", YOUNG), ("Date", "Thu, 01 Jan 2026 12:30:00 GMT")), YOUNG),
        (head(("Last-Modified", "yesterday")), ""),
        (head(), ""),
    ],
)
def test_only_strong_validators_allow_a_resume(headers: Message, if_range: str) -> None:
    validators = validators_of(headers, 9, NOW)
    assert (validators.if_range, validators.strong, validators.total_bytes) == (if_range, bool(if_range), 9)


MD5, SHA256 = "900150983cd24fb0d6963f7d28e17f72", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of "abc"."""
MD5_64, SHA256_64 = "kAFQmDzST7DWlj99KOF/cg==", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        (head(("Content-MD5", MD5_64)), f"md5:{MD5}"),
        (head(("Content-MD5", MD5.upper())), f"md5:{MD5}"),
        (head(("Repr-Digest", f"sha-256=:{SHA256_64}:")), f"sha256:{SHA256}"),
        (head(("Repr-Digest", f"md5=:{MD5_64}:,sha-256=:{SHA256_64}:;p=1")), f"sha256:{SHA256}"),
        (head(("Repr-Digest", f"md5=:{MD5_64}:"), ("Repr-Digest", f"sha-256=:{SHA256_64}:")), f"sha256:{SHA256}"),
        (head(("Content-MD5", MD5_64), ("Repr-Digest", f"sha-256=:{SHA256_64}:")), f"sha256:{SHA256}"),
        (head(("Digest", f"MD5={MD5_64},SHA-256={SHA256_64}")), f"sha256:{SHA256}"),
        (head(("Digest", f"id-sha-256={SHA256_64}")), f"sha256:{SHA256}"),
        (head(("Digest", f"sha-256={SHA256}")), f"sha256:{SHA256}"),
        (head(("Content-MD5", SHA256_64)), ""),
        (head(("Content-MD5", f"{MD5_64}, {MD5_64}")), ""),
        (head(("Content-MD5", "")), ""),
        (head(("Digest", "unixsum=30637")), ""),
        (head(("Repr-Digest", f"sha-512=:{SHA256_64}:")), ""),
        (head(("Repr-Digest", f"sha-256={SHA256_64}")), ""),
        (head(), ""),
    ],
)
def test_the_strongest_digest_of_a_whole_answer_is_taken(headers: Message, digest: str) -> None:
    assert validators_of(headers, 3, NOW).digest == digest


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes 3-8/9", Span(3, 8, 9)),
        ("bytes 3-8/*", None),
        ("bytes 8-3/9", None),
        ("bytes 3-9/9", None),
        ("bytes */9", None),
        ("items 3-8/9", None),
        ("", None),
    ],
)
def test_a_content_range_is_read_strictly(value: str, span: Span | None) -> None:
    assert span_of(head(("Content-Range", value))) == span


KNOWN = Validators('"a"', "", 9)
H4 = {
    "right": (head(("Content-Range", "bytes 3-8/9"), ("ETag", '"a"')), 6, 9),
    "no etag": (head(("Content-Range", "bytes 3-8/9")), 6, 9),
    "no length": (head(("Content-Range", "bytes 3-8/9"), ("ETag", '"a"')), None, None),
    "other etag": (head(("Content-Range", "bytes 3-8/9"), ("ETag", '"b"')), 6, None),
    "the etag made weak": (head(("Content-Range", "bytes 3-8/9"), ("ETag", 'W/"a"')), 6, 9),
    "the etag without quotes": (head(("Content-Range", "bytes 3-8/9"), ("ETag", "a")), 6, 9),
    "another etag, weak": (head(("Content-Range", "bytes 3-8/9"), ("ETag", 'W/"b"')), 6, None),
    "other start": (head(("Content-Range", "bytes 2-8/9")), 7, None),
    "not to the end": (head(("Content-Range", "bytes 3-7/9")), 5, None),
    "other total": (head(("Content-Range", "bytes 3-9/10")), 7, None),
    "other length": (head(("Content-Range", "bytes 3-8/9")), 9, None),
    "no range": (head(), 6, None),
    "several ranges": (head(("Content-Type", "multipart/byteranges; boundary=x")), 99, None),
}


@pytest.mark.parametrize(("headers", "length", "total"), H4.values(), ids=H4.keys())
def test_h4_only_the_exact_rest_continues(headers: Message, length: int | None, total: int | None) -> None:
    assert continued_total(headers, Framing(length, length is None), 3, KNOWN) == total


@pytest.mark.parametrize(
    ("start", "page"),
    [
        (b"<!DOCTYPE html><html>", True),
        (b"\xef\xbb\xbf\n  <HTML lang='en'>", True),
        (b"<!-- login -->\n<html>", True),
        (b"<script>location='/login'</script>", True),
        (b"<?xml version='1.0'?><domain/>", False),
        (b"QFI\xfb", False),
        (b"<htmlish", False),
        (b"", False),
    ],
)
def test_h12_a_web_page_is_known_by_its_start(start: bytes, page: bool) -> None:
    assert begins_like_page(start) is page
