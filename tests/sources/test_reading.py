"""Reading a source piece by piece: one version, whatever the server does."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.fakes.range_server import RangedFile
from tests.fakes.web_server import Behaviour, Talk, WebServer, answer, cut, raw, redirect, whole
from tests.sources.conftest import LOOPBACK, PLAIN
from transship.domain.errors import (
    RedirectRefused,
    SourceChanged,
    SourceNotAccepted,
    SourceRefused,
    SourceTruncated,
)
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules
from transship.sources.gate import UriGate
from transship.sources.reading import PIECE_BYTES
from transship.sources.web import SourceRequest, WebSource

MIB = 1024 * 1024
BODY = os.urandom(3 * MIB + 17)


def source(rules: UriRules = LOOPBACK) -> WebSource:
    return WebSource(UriGate(rules), PLAIN, 1 << 30)


def read(url: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(source().read(SourceRequest(url), StopToken(), offset, length))


def size(url: str) -> int:
    return source().size(SourceRequest(url), StopToken())


def chunked(body: bytes) -> Behaviour:
    head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "v1"\r\n\r\n'
    return raw(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def refuses_ranges(talk: Talk) -> None:
    (answer(416) if "range" in talk.request.headers else whole(BODY))(talk)


def sends_another_range(talk: Talk) -> None:
    if "range" not in talk.request.headers:
        whole(BODY)(talk)
        return
    talk.head(206, {"Content-Range": f"bytes 0-9/{len(BODY)}", "Content-Length": "10"})
    talk.send(BODY[:10])


def of_unknown_total(talk: Talk) -> None:
    if "range" not in talk.request.headers:
        whole(BODY)(talk)
        return
    talk.head(206, {"Content-Range": "bytes 0-0/*", "Content-Length": "1"})
    talk.send(BODY[:1])


SERVERS: dict[str, Behaviour] = {
    "with ranges": whole(BODY),
    "without ranges": whole(BODY, ranges=False),
    "without validators": whole(BODY, etag=""),
    "416 for every range": refuses_ranges,
    "another range than requested": sends_another_range,
    "a range of an unknown total": of_unknown_total,
}


@pytest.mark.parametrize("behaviour", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, None),
        (1, None),
        (0, 1),
        (5, 2 * MIB),
        (len(BODY) - 1, None),
        (len(BODY), None),
        (len(BODY) + 9, 5),
        (7, 1 << 40),
    ],
)
def test_a_range_is_read_from_any_server(
    behaviour: Behaviour, offset: int, length: int | None, server: WebServer
) -> None:
    end = None if length is None else offset + length
    assert read(server.on("/x.img", behaviour), offset, length) == BODY[offset:end]


def test_pieces_are_of_one_size_but_for_the_last(server: WebServer) -> None:
    pieces = list(source().read(SourceRequest(server.serve("/x.img", BODY)), StopToken(), 3))
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 14]


@pytest.mark.parametrize("behaviour", SERVERS.values(), ids=SERVERS)
def test_the_size_is_the_announced_one(behaviour: Behaviour, server: WebServer) -> None:
    assert size(server.on("/x.img", behaviour)) == len(BODY)


def test_the_size_of_an_empty_source_is_zero(server: WebServer) -> None:
    url = server.serve("/x.img", b"")
    assert (size(url), read(url)) == (0, b"")


def test_a_source_that_announces_no_size_has_none(server: WebServer) -> None:
    url = server.on("/x.img", chunked(b"image"))
    with pytest.raises(SourceRefused, match="does not announce the size"):
        size(url)
    assert read(url, 2) == b"age"


def test_redirects_are_followed(server: WebServer) -> None:
    server.serve("/there.img", BODY)
    url = server.on("/here.img", redirect("/there.img"))
    assert (size(url), read(url, 10, 20)) == (len(BODY), BODY[10:30])


@pytest.mark.parametrize("ask", [size, read])
def test_source_and_redirects_are_judged(ask: Callable[[str], object], server: WebServer) -> None:
    with pytest.raises(RedirectRefused):
        ask(server.on("/x.img", redirect("http://10.0.0.1/x.img")))
    with pytest.raises(SourceNotAccepted):
        ask("http://169.254.169.254/x.img")
    with pytest.raises(SourceNotAccepted):
        ask("ftp://127.0.0.1/x.img")


def breaks_after(*sizes: int) -> Callable[[RangedFile], Callable[[Talk, int], None]]:
    """Break the connection each time that so many bytes were sent in all."""
    left = list(sizes)

    def on_piece(talk: Talk, sent: int) -> None:
        if left and sent >= left[0]:
            left.pop(0)
            talk.reset()
            raise ConnectionAbortedError

    return lambda _file: on_piece


def test_a_response_that_broke_off_is_continued_in_the_same_version(server: WebServer) -> None:
    file = RangedFile(BODY)
    file.on_piece = breaks_after(MIB, 2 * MIB)(file)

    assert read(server.on("/x.img", file), 5) == BODY[5:]

    first, *others = server.requests("/x.img")
    assert "if-range" not in first.headers
    assert [request.headers["if-range"] for request in others] == ['"v1"', '"v1"']


def test_two_versions_are_never_mixed(server: WebServer) -> None:
    file = RangedFile(BODY)
    once = breaks_after(MIB)(file)

    def change(talk: Talk, sent: int) -> None:
        if sent >= MIB:
            file.replace(os.urandom(len(BODY)), '"v2"')
        once(talk, sent)

    file.on_piece = change
    with pytest.raises(SourceChanged):
        read(server.on("/x.img", file))


def test_the_same_version_is_read_again_from_the_start_if_there_are_no_ranges(server: WebServer) -> None:
    url = server.on("/x.img", cut(BODY, 2 * MIB), whole(BODY, ranges=False))
    assert read(url) == BODY


@pytest.mark.parametrize(
    "behaviours",
    [
        (cut(BODY, MIB, etag=""),),
        (cut(BODY, MIB), cut(BODY, 0)),
        (cut(BODY, 0),),
        (cut(BODY, MIB), whole(BODY, etag="")),
    ],
    ids=["no validators", "no progress", "no byte", "no proof"],
)
def test_a_response_that_cannot_be_continued_is_an_error(behaviours: tuple[Behaviour, ...], server: WebServer) -> None:
    with pytest.raises(SourceTruncated):
        read(server.on("/x.img", *behaviours))


def test_a_server_that_sends_ranges_in_portions_is_asked_again(server: WebServer) -> None:
    def portions(talk: Talk) -> None:
        first = int(talk.request.headers.get("range", "bytes=0-")[6:].partition("-")[0])
        last = min(first + MIB, len(BODY)) - 1
        span = {"Content-Range": f"bytes {first}-{last}/{len(BODY)}", "Content-Length": str(last - first + 1)}
        talk.head(206, {"ETag": '"v1"', **span})
        talk.send(BODY[first : last + 1])

    assert read(server.on("/x.img", portions), 10) == BODY[10:]
