"""The download engine against honest and hostile servers."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.settings import DownloadSettings
from tests.fakes.certificates import Authority, self_signed_context
from tests.fakes.web_server import (
    Behaviour,
    Talk,
    WebServer,
    answer,
    cut,
    drip,
    endless,
    raw,
    redirect,
    silent,
    whole,
)
from tests.sources.conftest import LOOPBACK, PLAIN, Download, Names
from transship.domain import throttle
from transship.domain.errors import (
    ImageTooLarge,
    ImportCancelled,
    RedirectRefused,
    SourceBusy,
    SourceEmpty,
    SourceNotAccepted,
    SourceRefused,
    SourceTookTooLong,
    SourceTooLong,
    SourceTooSlow,
    SourceTruncated,
    SourceUnreachable,
    SourceUntrusted,
    StagingBroken,
    StagingFull,
    TransferFailed,
)
from transship.domain.uri_filter import HostPort, UriRules
from transship.sources.dialling import client_tls
from transship.sources.part import PartFile
from transship.sources.transport import NO_ANSWER
from transship.sources.web import Validators

DATA = bytes(range(256)) * 1200  # 300 KiB: several chunks
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA)
NEW = bytes(reversed(DATA)) + b"longer"
OLD = "Thu, 01 Jan 2015 11:00:00 GMT"


# --- what works --------------------------------------------------------------------------------


def test_a_file_arrives_whole(server: WebServer, download: Download) -> None:
    done = download.fetch(server.serve("/x.img", DATA, headers={"Content-Type": "application/X-img; a=b"}))
    assert download.data == DATA
    assert (done.size, done.resumed_from, done.content_type) == (len(DATA), 0, "application/x-img")
    assert done.validators == Validators('"v1"', "", len(DATA))
    assert download.remembered == [done.validators]
    assert download.size_when_remembered == [0]
    assert download.reserved == [len(DATA)]
    assert download.told[-1] == (len(DATA), len(DATA))


def test_the_request_asks_for_plain_data_under_our_name(server: WebServer, download: Download) -> None:
    download.fetch(server.serve("/x.img", DATA) + "?token=a%2Fb#part")
    (request,) = server.requests("/x.img")
    assert (request.method, request.target) == ("GET", "/x.img?token=a%2Fb")
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("transship/")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert "range" not in request.headers


def test_u32_proxies_of_the_environment_are_not_used(
    server: WebServer, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert download.fetch(server.serve("/x.img", DATA)).size == len(DATA)


def test_chunks_arrive_whole_and_room_is_reserved_in_steps(server: WebServer, download: Download) -> None:
    chunks = b"".join(
        b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in (DATA[:7], DATA[7:100_000], DATA[100_000:])
    )
    url = server.on("/x", raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: 1\r\n\r\n"))
    done = download.fetch(url, step_bytes=100_000)
    assert download.data == DATA
    assert done.validators.total_bytes is None
    assert download.reserved[0] == 100_000
    assert download.reserved == sorted(set(download.reserved))
    assert download.reserved[-1] >= len(DATA)
    assert download.told[-1] == (len(DATA), len(DATA))


def test_a_body_that_ends_with_the_connection_is_accepted(server: WebServer, download: Download) -> None:
    done = download.fetch(server.on("/x", raw(b"HTTP/1.0 200 OK\r\n\r\n" + DATA)))
    assert (done.size, download.data) == (len(DATA), DATA)


def test_h22_a_file_name_of_the_server_is_ignored(server: WebServer, download: Download) -> None:
    headers = {"Content-Disposition": "attachment; filename=../../x"}
    download.fetch(server.serve("/x", DATA, headers=headers))
    assert os.listdir(download.path.parent) == [download.path.name]


def test_an_internal_host_is_opened_with_its_port(server: WebServer, download: Download) -> None:
    url = server.serve("/x", DATA)
    with pytest.raises(SourceNotAccepted):
        download.fetch(url, rules=UriRules())
    assert download.fetch(url, rules=UriRules(internal_hosts=(HostPort("127.0.0.1", server.port),))).size == len(DATA)


def test_the_name_goes_into_the_host_header_while_the_judged_address_is_dialled(
    server: WebServer, download: Download
) -> None:
    server.serve("/x", DATA)
    names = Names({"mirror.example": [("127.0.0.1",), ("192.168.250.250",)]})
    rules = UriRules(allowed_hosts=("mirror.example",), allowed_ports=())
    download.fetch(server.url("/x", "mirror.example"), rules=rules, resolver=names)
    assert server.requests("/x")[0].headers["host"] == f"mirror.example:{server.port}"
    assert names.asked == ["mirror.example"]


def test_u14_a_name_that_changes_its_answer_is_judged_again_at_each_hop(server: WebServer, download: Download) -> None:
    server.on("/a", redirect(server.url("/b", "evil.example")))
    server.serve("/b", DATA)
    names = Names({"mirror.example": [("127.0.0.1",)], "evil.example": [("169.254.169.254",)]})
    rules = UriRules(allowed_hosts=("mirror.example", "evil.example"), allowed_ports=())
    with pytest.raises(RedirectRefused) as refused:
        download.fetch(server.url("/a", "mirror.example"), rules=rules, resolver=names)
    assert refused.value.rule == "metadata_address"
    assert server.requests("/b") == []


def test_h20_a_dead_address_is_passed_over(server: WebServer, download: Download) -> None:
    server.serve("/x", DATA)
    names = Names({"host": [("::1", "127.0.0.2", "127.0.0.1")]})
    rules = UriRules(allowed_hosts=("host",), allowed_ports=())
    assert download.fetch(server.url("/x", "host"), rules=rules, resolver=names).size == len(DATA)


def test_h20_a_silent_address_is_raced(server: WebServer, download: Download) -> None:
    server.serve("/x", DATA)
    with socket.socket() as full:
        # A listener whose queue is full drops further SYNs: the closest thing to a filtered port on loopback.
        full.bind(("127.0.0.3", server.port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.3", server.port))
        names = Names({"host": [("127.0.0.3", "127.0.0.1")]})
        rules = UriRules(allowed_hosts=("host",), allowed_ports=())
        assert download.fetch(server.url("/x", "host"), rules=rules, resolver=names).size == len(DATA)
        for one in waiting:
            one.close()


# --- redirects ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/dir/x", "x", "?hop=1", "//127.0.0.1:{port}/dir/x", "{url}"])
def test_redirects_are_followed(server: WebServer, download: Download, status: int, location: str) -> None:
    url = server.url("/dir/x")
    first = redirect(location.format(port=server.port, url=url), status)
    server.on("/dir/a", first, whole(DATA))
    server.serve("/dir/x", DATA)
    assert download.fetch(server.url("/dir/a")).size == len(DATA)


@pytest.mark.parametrize("location", ["/\xe4", "/\xc3\xa4"], ids=["Latin-1", "UTF-8"])
def test_unescaped_characters_of_a_location_are_escaped(server: WebServer, download: Download, location: str) -> None:
    server.serve("/%C3%A4", DATA)
    assert download.fetch(server.on("/a", redirect(location))).size == len(DATA)


SPACED: dict[str, tuple[str, str]] = {
    "a space": ("/new/My Image v1.img", "/new/My%20Image%20v1.img"),
    "a space, relative": ("My Image.img", "/old/My%20Image.img"),
    "a space, whole address": ("http://127.0.0.1:{port}/My Image.img", "/My%20Image.img"),
    "a space, without scheme": ("//127.0.0.1:{port}/My Image.img", "/My%20Image.img"),
    "a space in the query": ("/x?name=My Image", "/x?name=My%20Image"),
    "a space in the query alone": ("?name=My Image", "/old/a?name=My%20Image"),
    "several spaces": ("/a  b", "/a%20%20b"),
    "a space beside an escape": ("/a b%20c%2Fd", "/a%20b%20c%2Fd"),
    "no-break and ideographic space": ("/a\u00a0b\u3000c", "/a%C2%A0b%E3%80%80c"),
    "zero-width space": ("/a\u200bb", "/a%E2%80%8Bb"),
    "quotes and brackets": ('/"a"<b>', "/%22a%22%3Cb%3E"),
    "bar, caret, back-tick and braces": ("/{{a}}|b^c`", "/%7Ba%7D%7Cb%5Ec%60"),
    "a per cent sign alone": ("/100% sure", "/100%25%20sure"),
    "a fragment with a space": ("/x#some part", "/x"),
}


@pytest.mark.parametrize(("location", "target"), SPACED.values(), ids=SPACED.keys())
def test_what_other_clients_escape_in_a_location_is_escaped(
    server: WebServer, download: Download, location: str, target: str
) -> None:
    """As curl, wget and browsers ask for it."""
    path = target.partition("?")[0]
    first = redirect(location.format(port=server.port).encode().decode("latin-1"))
    server.on(path, *([first] if path == "/old/a" else []), whole(DATA))
    if path != "/old/a":
        server.on("/old/a", first)
    download.fetch(server.url("/old/a"))
    assert download.data == DATA
    assert server.requests(path)[-1].target == target


REFUSED_REDIRECTS = {
    "U15 metadata": ("http://169.254.169.254/latest", "allowed_hosts"),
    "U15 file": ("file:///etc/passwd", "allowed_schemes"),
    "U15 slashes": ("//", "host_missing"),
    "U15 encoded address": ("http://2130706433/", "ipv4_form"),
    "U18 missing": (None, "location_missing"),
    "U18 empty": ("", "location_missing"),
    "U18 control character": ("/a\tb", "control_character"),
    "U18 delete": ("/a\x7fb", "control_character"),
    "a space in the host": ("http://127.0.0.1 .example/", "control_character"),
    "a space in the port": ("//127.0.0.1: 80/", "control_character"),
    "a no-break space in the host": ("http://127.0.0.1\xa0/", "control_character"),
    "a backslash": ("/a\\b", "control_character"),
    "U20 user info with a space": ("http://us er:secret@127.0.0.1/", "control_character"),
    "U20 user info": ("http://user:secret@127.0.0.1/", "userinfo"),
    "other host": ("http://192.168.250.250/", "allowed_hosts"),
}


@pytest.mark.parametrize(("location", "rule"), REFUSED_REDIRECTS.values(), ids=REFUSED_REDIRECTS.keys())
def test_a_redirect_is_judged_like_a_uri(
    server: WebServer, download: Download, location: str | None, rule: str
) -> None:
    with pytest.raises(RedirectRefused) as refused:
        download.fetch(server.on("/a", redirect(location)))
    assert refused.value.rule == rule
    assert refused.value.uri == server.url("/a")
    assert "secret" not in str(refused.value)
    assert download.data == b""


def test_u15_a_redirect_to_another_port_is_judged(server: WebServer, download: Download) -> None:
    rules = UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=(server.port,))
    with pytest.raises(RedirectRefused) as refused:
        download.fetch(server.on("/a", redirect("http://127.0.0.1:22/")), rules=rules)
    assert refused.value.rule == "allowed_ports"


def test_u16_a_redirect_loop_ends(server: WebServer, download: Download) -> None:
    with pytest.raises(RedirectRefused) as refused:
        download.fetch(server.on("/a", redirect("/a")))
    assert refused.value.rule == "max_redirects"
    assert len(server.requests("/a")) == LOOPBACK.max_redirects + 1


def test_a_redirect_to_a_name_without_an_address_may_pass_later(server: WebServer, download: Download) -> None:
    rules = UriRules(allowed_hosts=("127.0.0.1", "nowhere.example"), allowed_ports=())
    with pytest.raises(SourceUnreachable):
        download.fetch(server.on("/a", redirect("http://nowhere.example/")), rules=rules, resolver=Names({}))


@pytest.mark.parametrize("status", [300, 304, 305])
def test_u18_other_redirects_are_refused(server: WebServer, download: Download, status: int) -> None:
    server.serve("/x", DATA)
    with pytest.raises(SourceRefused):
        download.fetch(server.on("/a", redirect("/x", status)))


# --- resume ------------------------------------------------------------------------------------


def broken(server: WebServer, download: Download, *then: Behaviour, first: Behaviour | None = None) -> Validators:
    """Let a download of ``/x`` break; returns the validators that it remembered."""
    server.on("/x", first or cut(DATA, 100_000), *then)
    with pytest.raises((SourceTruncated, SourceUnreachable)):
        download.fetch(server.url("/x"))
    return download.remembered[-1]


@pytest.mark.parametrize("after", [0, 1, 150_000, len(DATA) - 1])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_h7_a_broken_download_is_resumed(server: WebServer, download: Download, after: int, reset: bool) -> None:
    known = broken(server, download, whole(DATA), first=cut(DATA, after, reset=reset))
    have = len(download.data)
    assert have <= after
    done = download.fetch(server.url("/x"), resume=known)
    assert download.data == DATA
    assert done.resumed_from == have
    assert done.validators == known
    last = server.requests("/x")[-1].headers
    assert last.get("range") == (f"bytes={have}-" if have else None)
    assert last.get("if-range") == ('"v1"' if have else None)


def test_what_had_arrived_is_kept_and_named(server: WebServer, download: Download) -> None:
    with pytest.raises(SourceTruncated) as truncated:
        download.fetch(server.on("/x", cut(DATA, 100_000)))
    assert (truncated.value.expected_bytes, truncated.value.received_bytes) == (len(DATA), 100_000)
    assert truncated.value.retryable
    assert download.data == DATA[:100_000]


def test_a_date_resumes_where_there_is_no_etag(server: WebServer, download: Download) -> None:
    dated = whole(DATA, etag="", headers={"Last-Modified": OLD})
    head = b"Content-Length: %d\r\nLast-Modified: %s\r\n\r\n" % (len(DATA), OLD.encode())
    known = broken(server, download, dated, first=raw(HEAD + head + DATA[:1000]))
    assert known == Validators("", OLD, len(DATA))
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 1000
    assert server.requests("/x")[-1].headers["if-range"] == OLD
    assert download.data == DATA


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", '"a"b"', '"a b"'], ids=["weak", "unquoted", "quote within", "space"])
def test_a_date_resumes_where_the_etag_is_of_no_use(server: WebServer, download: Download, etag: str) -> None:
    dated = whole(DATA, etag=etag, headers={"Last-Modified": OLD})
    head = b"Content-Length: %d\r\nLast-Modified: %b\r\nETag: %b\r\n\r\n" % (len(DATA), OLD.encode(), etag.encode())
    known = broken(server, download, dated, first=raw(HEAD + head + DATA[:1000]))
    assert known == Validators("", OLD, len(DATA))
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 1000
    assert server.requests("/x")[-1].headers["if-range"] == OLD
    assert download.data == DATA


@pytest.mark.parametrize("etag", ['W/"v2"', "other"])
def test_another_date_starts_over_where_the_etag_is_of_no_use(server: WebServer, download: Download, etag: str) -> None:
    newer = whole(NEW, etag=etag, headers={"Last-Modified": "Fri, 02 Jan 2015 11:00:00 GMT"})
    head = b'Content-Length: %d\r\nLast-Modified: %b\r\nETag: W/"v1"\r\n\r\n' % (len(DATA), OLD.encode())
    known = broken(server, download, newer, first=raw(HEAD + head + DATA[:1000]))
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 0
    assert download.data == NEW


WHOLES: dict[str, Behaviour] = {
    "203": answer(203, {"ETag": '"v1"', "Via": "1.1 scanner"}, DATA),
    "203 in chunks": raw(b"HTTP/1.1 203 N\r\n" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    "206 of all": answer(206, {"ETag": '"v1"', "Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA),
    "206 of all, no length": raw(
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-%d/%d\r\n\r\n" % (len(DATA) - 1, len(DATA)) + DATA
    ),
    "206 of all, in chunks": raw(
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-%d/%d\r\n" % (len(DATA) - 1, len(DATA))
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + CHUNKS
    ),
}


@pytest.mark.parametrize("behaviour", WHOLES.values(), ids=WHOLES.keys())
def test_whatever_status_a_whole_file_has_it_is_taken(
    server: WebServer, download: Download, behaviour: Behaviour
) -> None:
    server.on("/a", redirect("/y"))
    assert download.fetch(server.on("/y", behaviour)).end_proven
    assert download.data == DATA
    assert download.fetch(server.url("/a")).size == len(DATA)
    known = broken(server, download, behaviour)
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 0
    assert download.data == DATA


def test_a_file_that_was_whole_already_is_checked_with_one_byte(server: WebServer, download: Download) -> None:
    download.path.write_bytes(DATA)
    done = download.fetch(server.serve("/x", DATA), resume=Validators('"v1"', "", len(DATA)))
    assert (done.size, done.resumed_from, download.data) == (len(DATA), len(DATA) - 1, DATA)


def test_a_file_of_unknown_size_that_was_whole_is_complete(server: WebServer, download: Download) -> None:
    download.path.write_bytes(DATA)
    done = download.fetch(server.serve("/x", DATA), resume=Validators('"v1"', "", None))
    assert (done.size, done.resumed_from, download.data) == (len(DATA), len(DATA), DATA)


STARTS_OVER = {
    "H2 no ranges": whole(NEW, etag='"v2"', ranges=False),
    "H17 replaced": whole(NEW, etag='"v2"'),
}


@pytest.mark.parametrize("behaviour", STARTS_OVER.values(), ids=STARTS_OVER.keys())
def test_h2_h17_another_version_is_taken_from_its_start(
    server: WebServer, download: Download, behaviour: Behaviour
) -> None:
    known = broken(server, download, behaviour)
    done = download.fetch(server.url("/x"), resume=known)
    assert download.data == NEW
    assert done.resumed_from == 0
    assert download.remembered[-1] == Validators('"v2"', "", len(NEW))
    assert download.size_when_remembered == [0, 0]


LYING = {
    "H4 other etag": {"Content-Range": f"bytes 100000-{len(DATA) - 1}/{len(DATA)}", "ETag": '"v2"'},
    "other start": {"Content-Range": f"bytes 99999-{len(DATA) - 1}/{len(DATA)}"},
    "other total": {"Content-Range": f"bytes 100000-{len(DATA)}/{len(DATA) + 1}"},
    "no range named": {},
}


@pytest.mark.parametrize("headers", LYING.values(), ids=LYING.keys())
def test_h4_a_rest_that_does_not_fit_is_never_appended(
    server: WebServer, download: Download, headers: dict[str, str]
) -> None:
    wrong = answer(206, headers, b"x" * (len(DATA) - 100_000))
    known = broken(server, download, wrong, whole(DATA))
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 0
    assert download.data == DATA
    assert "range" not in server.requests("/x")[-1].headers


def rest_that_is_the_whole(framing: bytes, after: int = 100_000) -> Behaviour:
    """A 206 whose head is right for the rest, and whose body is the whole file."""
    head = b'HTTP/1.1 206 P\r\nETag: "v1"\r\nContent-Range: bytes %d-%d/%d\r\n' % (after, len(DATA) - 1, len(DATA))
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA) if b"chunked" in framing else DATA
    return raw(head + framing + b"\r\n" + body)


@pytest.mark.parametrize(
    "framing",
    [b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: %d\r\n" % (len(DATA) - 100_000)],
    ids=["chunked", "until the connection closes", "more than its length"],
)
def test_a_rest_that_is_more_than_the_rest_is_read_in_one_stream(
    server: WebServer, download: Download, framing: bytes
) -> None:
    known = broken(server, download, rest_that_is_the_whole(framing), whole(DATA))
    done = download.fetch(server.url("/x"), resume=known)
    assert (download.data, done.resumed_from) == (DATA, 0)
    assert "range" not in server.requests("/x")[-1].headers


def test_a_rest_in_chunks_is_not_appended(server: WebServer, download: Download) -> None:
    """Only its end would show that it is the rest."""
    span = f"Content-Range: bytes 100000-{len(DATA) - 1}/{len(DATA)}\r\n".encode()
    known = broken(server, download, raw(b"HTTP/1.1 206 P\r\n" + span + CHUNKED[len(HEAD) :] + b"a\r\n"), whole(DATA))
    download.fetch(server.url("/x"), resume=known)
    assert download.data == DATA


def test_a_416_starts_over(server: WebServer, download: Download) -> None:
    known = broken(server, download, answer(416), whole(DATA))
    assert download.fetch(server.url("/x"), resume=known).size == len(DATA)
    assert download.data == DATA


@pytest.mark.parametrize("known", [None, Validators(), Validators('W/"v1"', "", len(DATA)), Validators('"v1"', "", 5)])
def test_without_proof_a_download_starts_over(server: WebServer, download: Download, known: Validators | None) -> None:
    download.path.write_bytes(b"something else")
    download.fetch(server.serve("/x", DATA), resume=known)
    assert download.data == DATA
    assert "range" not in server.requests("/x")[0].headers


def test_a_shorter_version_leaves_nothing_of_the_longer_one(server: WebServer, download: Download) -> None:
    known = broken(server, download, whole(b"short", etag='"v2"'))
    download.fetch(server.url("/x"), resume=known)
    assert download.data == b"short"


def test_a_busy_server_leaves_the_part_for_a_later_resume(server: WebServer, download: Download) -> None:
    known = broken(server, download, answer(503, {"Retry-After": "5"}), whole(DATA))
    with pytest.raises(SourceBusy) as busy:
        download.fetch(server.url("/x"), resume=known)
    assert busy.value.retry_after_s == 5
    assert download.fetch(server.url("/x"), resume=known).resumed_from == 100_000
    assert download.data == DATA


# --- answers that are none ---------------------------------------------------------------------

LENGTH = b"Content-Length: %d\r\n" % len(DATA)
PAGE = b"<!DOCTYPE html><title>Log in</title>"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE_PART = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%d/%d\r\n" % (len(DATA) - 1, len(DATA))
USELESS: dict[str, tuple[Behaviour, type[TransferFailed]]] = {
    "H6 announces too much": (raw(HEAD + b"Content-Length: 9\r\n\r\n12345678"), SourceTruncated),
    "H6 announces too little": (raw(HEAD + b"Content-Length: 7\r\n\r\n12345678"), SourceTooLong),
    "H6 negative length": (raw(HEAD + b"Content-Length: -1\r\n\r\n12345678"), SourceRefused),
    "H6 two lengths": (raw(HEAD + b"Content-Length: 7\r\nContent-Length: 8\r\n\r\n12345678"), SourceRefused),
    "H6 length and chunks": (
        raw(HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
        SourceRefused,
    ),
    "H7 cut at once": (cut(DATA, 0), SourceTruncated),
    "H7 cut before the last byte": (cut(DATA, len(DATA) - 1), SourceTruncated),
    "H7 closed without an answer": (raw(b""), SourceUnreachable),
    "H7 reset without an answer": (Talk.reset, SourceUnreachable),
    "headers cut": (raw(HEAD + b"Content-Le"), SourceUnreachable),
    "headers cut after a line": (raw(HEAD + b"Server: x\r\n"), SourceUnreachable),
    "chunks without the last one": (raw(CHUNKED + b"5\r\n12345\r\n"), SourceUnreachable),
    "chunk cut": (raw(CHUNKED + b"9\r\n12345"), SourceUnreachable),
    "chunk size nonsense": (raw(CHUNKED + b"zz\r\n12345\r\n0\r\n\r\n"), SourceUnreachable),
    "chunk size negative": (raw(CHUNKED + b"-5\r\n12345\r\n0\r\n\r\n"), SourceUnreachable),
    "chunk size with a sign": (raw(CHUNKED + b"+5\r\n12345\r\n0\r\n\r\n"), SourceUnreachable),
    "chunk size with a prefix": (raw(CHUNKED + b"0x5\r\n12345\r\n0\r\n\r\n"), SourceUnreachable),
    "chunk size cut": (raw(CHUNKED + b"5\r\n12345\r\n0"), SourceUnreachable),
    "chunk longer than its size": (raw(CHUNKED + b"5\r\n12345670\r\n\r\n"), SourceUnreachable),
    "chunk shorter than its size": (raw(CHUNKED + b"6\r\n12345\r\n0\r\n\r\n"), SourceUnreachable),
    "chunk size line endless": (endless(CHUNKED, b"0" * 65536), SourceUnreachable),
    "trailers endless": (endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Y: z\r\n" * 1000), SourceUnreachable),
    "H9 long header": (raw(HEAD + b"X-Long: " + b"x" * (1 << 20) + b"\r\n\r\n"), SourceRefused),
    "H9 many headers": (raw(HEAD + b"X-Y: z\r\n" * 10_000 + b"\r\n"), SourceRefused),
    "H9 headers endless": (endless(HEAD, b"X-Y: z\r\n" * 10), SourceRefused),
    "interim answers endless": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), SourceUnreachable),
    "a line that may have been the length": (
        raw(HEAD + b"Content-Length 5\r\n" + LENGTH + b"\r\n" + DATA),
        SourceRefused,
    ),
    "a length with a space before its colon": (raw(HEAD + b"Content-Length : 9\r\n\r\n" + DATA), SourceRefused),
    "a coding with a space before its colon": (
        raw(HEAD + b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n" + DATA),
        SourceRefused,
    ),
    "a length that goes on in the next line": (
        raw(HEAD + b"Content-Length: 5\r\nstray\r\n 6\r\n\r\n" + DATA),
        SourceRefused,
    ),
    "a continuation of nothing": (raw(HEAD + b" x: y\r\n" + LENGTH + b"\r\n" + DATA), SourceRefused),
    "a stray line before the status": (raw(b"stray\r\n" + HEAD + LENGTH + b"\r\n" + DATA), SourceUnreachable),
    "headers of stray lines without end": (endless(HEAD, b"stray\r\n" * 100), SourceRefused),
    "H11 encoded": (answer(200, {"Content-Encoding": "gzip"}, DATA), SourceRefused),
    "H12 page": (answer(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE), SourceRefused),
    "H13 busy": (answer(503), SourceBusy),
    "H14 too many": (answer(429), SourceBusy),
    "H15 denied": (answer(403), SourceRefused),
    "H15 not found": (answer(404), SourceRefused),
    "H15 range": (answer(416), SourceRefused),
    "no content": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), SourceRefused),
    "part unasked, the beginning": (answer(206, {"Content-Range": "bytes 0-2/4"}, b"abc"), SourceRefused),
    "part unasked, the end": (answer(206, {"Content-Range": "bytes 1-3/4"}, b"abc"), SourceRefused),
    "part unasked, of unknown size": (answer(206, {"Content-Range": "bytes 0-2/*"}, b"abc"), SourceRefused),
    "part unasked, unnamed": (answer(206, {}, b"abc"), SourceRefused),
    "parts unasked": (answer(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x--"), SourceRefused),
    "whole as a part, of another length": (answer(206, {"Content-Range": "bytes 0-2/3"}, b"abcd"), SourceRefused),
    "whole as a part, cut": (raw(WHOLE_PART + b"\r\n" + DATA[:-1]), SourceTruncated),
    "whole as a part, longer": (raw(WHOLE_PART + b"\r\n" + DATA + b"x"), SourceTooLong),
    "switching": (raw(b"HTTP/1.1 101 Switching\r\n\r\n"), SourceRefused),
    "interim answer alone": (raw(b"HTTP/1.1 103 Early Hints\r\n\r\n"), SourceUnreachable),
    "interim answer cut": (raw(b"HTTP/1.1 103 Early Hints\r\nLink: x"), SourceUnreachable),
    "other interim answers endless": (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100), SourceUnreachable),
    "H18 empty": (answer(200), SourceEmpty),
    "H18 empty, chunked": (raw(CHUNKED + b"0\r\n\r\n"), SourceEmpty),
    "H18 empty, no length": (raw(HEAD + b"\r\n"), SourceEmpty),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), SourceUnreachable),
    "HTTP/2": (raw(b"HTTP/2 200\r\n\r\n"), SourceUnreachable),
    "status nonsense": (raw(b"HTTP/1.1 abc\r\n\r\n"), SourceUnreachable),
    "status line endless": (endless(b"HTTP/1.1 200 ", b"x" * 65536), SourceUnreachable),
}


@pytest.mark.parametrize(("behaviour", "error"), USELESS.values(), ids=USELESS.keys())
def test_a_useless_answer_ends_the_attempt(
    server: WebServer, download: Download, behaviour: Behaviour, error: type[TransferFailed]
) -> None:
    url = server.on("/x", behaviour)
    with pytest.raises(error) as failed:
        download.fetch(url + "?secret")
    assert url in str(failed.value)
    assert "secret" not in str(failed.value)


ODD: dict[str, bytes] = {
    "no colon": b"no colon here\r\n",
    "several": b"one\r\ntwo words\r\n: no name\r\nFrom me\r\n",
    "a name with a space": b"X Powered By: us\r\n",
    "multipart": b"Content-Type: multipart/x-image\r\n",
    "multipart with a boundary": b"Content-Type: multipart/mixed; boundary=x\r\n",
    "none": b"Content-Encoding: none\r\n",
    "aws-chunked": b"Content-Encoding: aws-chunked\r\n",
    "a charset as coding": b"Content-Encoding: utf-8\r\n",
    "binary": b"Content-Encoding: binary\r\n",
    "a media type as coding": b"Content-Encoding: application/octet-stream\r\n",
    "identity as transfer coding": b"Transfer-Encoding: identity\r\n",
    "binary as transfer coding": b"Transfer-Encoding: binary\r\n",
}


@pytest.mark.parametrize("line", ODD.values(), ids=ODD.keys())
def test_a_head_may_be_odd_where_it_does_not_matter(server: WebServer, download: Download, line: bytes) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA)
    url = server.on("/x", raw(HEAD + line + LENGTH + b"\r\n" + DATA + b"x"), raw(HEAD + line + chunks))
    with pytest.raises(SourceTooLong):  # the length behind the odd line was read
        download.fetch(url)
    assert download.fetch(url).end_proven
    assert download.data == DATA


INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102, over and over": b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
    "103 with headers": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 3\r\nstray\r\n\r\n",
    "104": b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /elsewhere\r\n\r\n",
    "without a phrase": b"HTTP/1.1 199\r\n\r\n",
    "HTTP/1.0, lines ended by LF": b'HTTP/1.0 110 Response is Stale\nETag: "other"\n\n',
    "several": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM.keys())
def test_interim_answers_are_passed_over(server: WebServer, download: Download, interim: bytes) -> None:
    """In one segment with the answer, and long before it."""
    answered = HEAD + b'ETag: "v1"\r\n' + LENGTH + b"\r\n" + DATA

    def byte_by_byte(talk: Talk) -> None:
        for byte in interim:
            talk.send(bytes([byte]))
        talk.send(answered)

    moved = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    server.on("/a", raw(interim + moved))
    url = server.on("/x", raw(interim + answered), byte_by_byte)
    for one in (server.url("/a"), url):
        done = download.fetch(one)
        assert (download.data, done.validators) == (DATA, Validators('"v1"', "", len(DATA)))


def test_a_malformed_header_that_may_matter_is_named(server: WebServer, download: Download) -> None:
    url = server.on("/x", raw(HEAD + b"Content-Length 5\r\n" + LENGTH + b"\r\n" + DATA))
    with pytest.raises(SourceRefused, match="its headers are malformed: 'Content-Length 5' is no header"):
        download.fetch(url)


def test_h12_a_page_is_not_left_in_the_file(server: WebServer, download: Download) -> None:
    headers = {"Content-Type": "text/html"}
    with pytest.raises(SourceRefused, match="a web page, not an image"):
        download.fetch(server.on("/x", answer(200, headers, PAGE + DATA)))
    assert download.data == b""


def test_h12_an_image_under_a_wrong_type_is_taken(server: WebServer, download: Download) -> None:
    assert download.fetch(server.on("/x", answer(200, {"Content-Type": "text/html"}, DATA))).size == len(DATA)


def test_h18_an_empty_source_is_taken_where_that_is_allowed(server: WebServer, download: Download) -> None:
    limits = PLAIN.model_copy(update={"allow_empty": True})
    assert download.fetch(server.on("/x", answer(200)), limits=limits).size == 0
    assert download.data == b""


@pytest.mark.parametrize(
    "slowness", [{"idle_timeout_s": 1.0}, {"min_speed_bytes_per_s": 1000, "min_speed_window_s": 1.0}]
)
def test_u30_a_closed_a_silent_and_a_foreign_port_give_one_reason(
    server: WebServer, download: Download, slowness: dict[str, float]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        texts = set()
        limits = PLAIN.model_copy(update=slowness)
        foreign = server.on("/x", raw(b"220 ready\r\n"))
        mute, slow = server.on("/mute", silent()), server.on("/slow", silent(b"HTTP/1."))
        for url in (closed, foreign, mute, slow):
            with pytest.raises(SourceUnreachable) as failed:
                download.fetch(url, limits=limits)
            texts.add(failed.value.reason)
        with pytest.raises(SourceUnreachable) as failed:
            download.fetch(
                server.url("/x").replace("http:", "https:"), limits=limits.model_copy(update={"connect_timeout_s": 1})
            )
        texts.add(failed.value.reason)
    assert texts == {NO_ANSWER}


def test_a_name_without_an_address_may_have_one_later(download: Download) -> None:
    rules = UriRules(allowed_hosts=("nowhere.example",))
    with pytest.raises(SourceUnreachable):
        download.fetch("http://nowhere.example/x", rules=rules, resolver=Names({}))


# --- limits ------------------------------------------------------------------------------------


def test_h21_a_size_above_the_cap_is_refused_before_a_byte(server: WebServer, download: Download) -> None:
    with pytest.raises(ImageTooLarge) as large:
        download.fetch(server.serve("/x", DATA), cap_bytes=len(DATA) - 1)
    assert large.value.size_bytes == len(DATA)
    assert (download.data, download.reserved, download.remembered) == (b"", [], [])


def test_a_size_equal_to_the_cap_is_taken(server: WebServer, download: Download) -> None:
    assert download.fetch(server.serve("/x", DATA), cap_bytes=len(DATA)).size == len(DATA)


@pytest.mark.parametrize(
    "first", [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", HEAD + b"\r\n"], ids=["chunks", "no length"]
)
def test_h8_an_endless_body_stops_at_the_cap(server: WebServer, download: Download, first: bytes) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with pytest.raises(ImageTooLarge):
        download.fetch(server.on("/x", endless(first, piece)), cap_bytes=1 << 20, step_bytes=300_000)
    assert len(download.data) <= 1 << 20
    assert max(download.reserved) == 1 << 20


def test_h21_without_room_nothing_is_written(server: WebServer, download: Download) -> None:
    def reserve(size_bytes: int) -> None:
        raise StagingFull(size_bytes, 5)

    with pytest.raises(StagingFull):
        download.fetch(server.serve("/x", DATA), reserve=reserve)
    assert download.data == b""
    assert download.remembered == []


SILENT = {
    "H9 in the headers": silent(HEAD + b"Content-"),
    "in the body": silent(HEAD + LENGTH + b"\r\n" + DATA[:70_000]),
    "in the chunks": silent(CHUNKED + b"5\r\n123"),
}


@pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT.keys())
def test_a_silent_server_is_given_up(server: WebServer, download: Download, behaviour: Behaviour) -> None:
    limits = PLAIN.model_copy(update={"idle_timeout_s": 1.5})
    with pytest.raises(SourceTooSlow) as slow:
        download.fetch(server.on("/x", behaviour), limits=limits)
    assert slow.value.retryable


def test_h9_a_trickle_below_the_minimum_speed_ends(server: WebServer, download: Download) -> None:
    limits = PLAIN.model_copy(update={"min_speed_bytes_per_s": 1000, "min_speed_window_s": 1.5})
    with pytest.raises(SourceTooSlow) as slow:
        download.fetch(server.on("/x", drip(HEAD + LENGTH + b"\r\n", b"x", 0.05)), limits=limits)
    assert slow.value.minimum == 1000
    assert slow.value.rate < 1000


def test_h9_headers_that_trickle_end(server: WebServer, download: Download) -> None:
    limits = PLAIN.model_copy(update={"min_speed_bytes_per_s": 1000, "min_speed_window_s": 1.5})
    with pytest.raises(SourceTooSlow):
        download.fetch(server.on("/x", drip(HEAD, b"X-Y: z\r\n", 0.05)), limits=limits)


def test_a_download_has_a_time_limit_in_all(server: WebServer, download: Download) -> None:
    limits = PLAIN.model_copy(update={"total_timeout_s": 0.4})
    with pytest.raises(SourceTookTooLong):
        download.fetch(server.on("/x", drip(HEAD + LENGTH + b"\r\n", b"x", 0.05)), limits=limits)


PATIENT = DownloadSettings(connect_timeout_s=300, idle_timeout_s=300, total_timeout_s=600, min_speed_window_s=300)


@pytest.mark.parametrize(
    "behaviour",
    [silent(), silent(HEAD + LENGTH + b"\r\n" + DATA[:1000]), endless(HEAD + b"\r\n", b"x" * 65536)],
    ids=["before the answer", "in a silent body", "in a fast body"],
)
def test_a_cancel_ends_a_download(server: WebServer, download: Download, behaviour: Behaviour) -> None:
    def stopping(talk: Talk) -> None:
        download.stop.stop(ImportCancelled("a test"))
        behaviour(talk)

    with pytest.raises(ImportCancelled):
        download.fetch(server.on("/x", stopping), limits=PATIENT)


def test_a_cancel_ends_a_wait_for_the_resolver(download: Download) -> None:
    released = threading.Event()

    class Stuck:
        def resolve(self, host: str, port: int) -> tuple[str, ...]:
            download.stop.stop(ImportCancelled("a test"))
            released.wait(300)
            return ()

    with pytest.raises(ImportCancelled):
        download.fetch("http://host/", rules=UriRules(), resolver=Stuck(), limits=PATIENT)
    released.set()


def test_a_resolver_that_hangs_is_given_up(download: Download) -> None:
    released = threading.Event()

    class Stuck:
        def resolve(self, host: str, port: int) -> tuple[str, ...]:
            released.wait(300)
            return ()

    limits = PLAIN.model_copy(update={"connect_timeout_s": 0.2})
    with pytest.raises(SourceUnreachable):
        download.fetch("http://host/", rules=UriRules(), resolver=Stuck(), limits=limits)
    released.set()


@pytest.mark.parametrize(("a_chunk_s", "told"), [(0.0, "first and last"), (1.0, "every chunk")])
def test_progress_is_told_a_few_times_a_second(
    server: WebServer, download: Download, monkeypatch: pytest.MonkeyPatch, a_chunk_s: float, told: str
) -> None:
    clock = itertools.count(1000.0, a_chunk_s)
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    download.fetch(server.serve("/x", DATA * 40))
    dones = [done for done, _ in download.told]
    assert dones == sorted(dones)
    assert (len(dones) == 2) is (told == "first and last")
    assert (len(dones) > len(DATA) * 40 // PLAIN.chunk_bytes) is (told == "every chunk")


# --- staging -----------------------------------------------------------------------------------


def test_s5_a_file_size_limit_is_a_full_staging(server: WebServer, download: Download) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    url = server.serve("/x", DATA)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StagingFull):
            download.fetch(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert download.data == DATA[:100_000]


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="this machine has no /dev/full")
def test_s5_a_full_disk_is_a_full_staging(tmp_path: Path) -> None:
    with PartFile(Path("/dev/full")) as part, pytest.raises(StagingFull):
        part.write(memoryview(b"x"))


def test_a_missing_directory_is_a_broken_staging(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(StagingBroken):
        Download(tmp_path / "missing" / "x.part").fetch(server.serve("/x", DATA))


def test_a_symbolic_link_is_not_followed(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "x.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StagingBroken):
        Download(tmp_path / "x.part").fetch(server.serve("/x", DATA))
    assert not (tmp_path / "elsewhere").exists()


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


MIRROR = UriRules(allowed_hosts=("mirror.example", "127.0.0.1"), allowed_ports=())


def mirror() -> Names:
    return Names({"mirror.example": [("127.0.0.1",)]})


def test_u31_the_certificate_is_checked_by_name_on_the_pinned_address(authority: Authority, download: Download) -> None:
    with WebServer(tls=authority.server_context("mirror.example")) as server:
        server.serve("/x", DATA)
        trusting = authority.trust_in(client_tls())
        download.fetch(server.url("/x", "mirror.example"), rules=MIRROR, resolver=mirror(), tls=trusting)
        assert download.data == DATA
        assert server.server_names == ["mirror.example"]


def test_an_address_in_the_certificate_is_accepted(authority: Authority, download: Download) -> None:
    with WebServer(tls=authority.server_context("127.0.0.1")) as server:
        url = server.serve("/x", DATA)
        assert download.fetch(url, rules=MIRROR, tls=authority.trust_in(client_tls())).size == len(DATA)


@pytest.mark.parametrize("case", ["expired", "other name", "self-signed", "unknown authority"])
def test_u31_a_certificate_that_proves_nothing_is_final(authority: Authority, download: Download, case: str) -> None:
    contexts = {
        "expired": lambda: authority.server_context("mirror.example", lasts=timedelta(days=-1)),
        "other name": lambda: authority.server_context("127.0.0.1"),
        "self-signed": lambda: self_signed_context("mirror.example"),
        "unknown authority": lambda: Authority().server_context("mirror.example"),
    }
    with WebServer(tls=contexts[case]()) as server:
        server.serve("/x", DATA)
        trusting = authority.trust_in(client_tls())
        with pytest.raises(SourceUntrusted) as untrusted:
            download.fetch(server.url("/x", "mirror.example"), rules=MIRROR, resolver=mirror(), tls=trusting)
        assert not untrusted.value.retryable
        assert server.requests("/x") == []


def test_the_systems_authorities_are_the_default(authority: Authority, download: Download) -> None:
    with WebServer(tls=authority.server_context("127.0.0.1")) as server, pytest.raises(SourceUntrusted):
        download.fetch(server.serve("/x", DATA), rules=MIRROR)


def test_h10_a_server_that_stalls_in_the_handshake_is_given_up(server: WebServer, download: Download) -> None:
    limits = PLAIN.model_copy(update={"connect_timeout_s": 1})
    url = server.serve("/x", DATA).replace("http:", "https:")
    with pytest.raises(SourceUnreachable):
        download.fetch(url, limits=limits)


def test_tls_without_a_proper_end_is_no_end(authority: Authority, download: Download) -> None:
    def torn(talk: Talk) -> None:
        talk.send(HEAD + b"\r\n" + DATA)
        talk.reset()

    with WebServer(tls=authority.server_context("127.0.0.1")) as server, pytest.raises(SourceUnreachable):
        download.fetch(server.on("/x", torn), rules=MIRROR, tls=authority.trust_in(client_tls()))


def test_u17_a_redirect_out_of_tls_is_refused_unless_allowed(
    authority: Authority, server: WebServer, download: Download
) -> None:
    plain = server.serve("/x", DATA)
    trusting = authority.trust_in(client_tls())
    with WebServer(tls=authority.server_context("127.0.0.1")) as secure:
        url = secure.on("/a", redirect(plain))
        with pytest.raises(RedirectRefused) as refused:
            download.fetch(url, rules=MIRROR, tls=trusting)
        assert refused.value.rule == "allow_https_to_http"
        assert server.requests("/x") == []
        relaxed = UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=(), allow_https_to_http=True)
        assert download.fetch(url, rules=relaxed, tls=trusting).size == len(DATA)
