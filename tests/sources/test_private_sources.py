"""Sources that require credentials, and sources with a known digest."""

from __future__ import annotations

import pytest

from config.settings import DownloadSettings
from tests.fakes.certificates import Authority
from tests.fakes.range_server import RangedFile
from tests.fakes.web_server import WebServer, answer, cut, endless, redirect, whole
from tests.sources.conftest import LOOPBACK, PLAIN, Download
from transship.domain.errors import SourceRefused, SourceTruncated
from transship.domain.stop import StopToken
from transship.sources.dialling import client_tls
from transship.sources.gate import UriGate
from transship.sources.web import SourceRequest, Validators, WebSource

DATA = bytes(range(256)) * 1200  # 300 KiB
TOKEN = {"X-Auth-Token": "hush"}


def test_private_headers_are_sent_to_the_source(server: WebServer, download: Download) -> None:
    download.fetch(server.serve("/x.img", DATA), private=TOKEN)
    assert server.requests("/x.img")[0].headers["x-auth-token"] == "hush"


def test_private_headers_go_along_on_a_redirect_within_the_origin(server: WebServer, download: Download) -> None:
    server.serve("/y.img", DATA)
    download.fetch(server.on("/x.img", redirect("/y.img")), private=TOKEN)
    assert server.requests("/y.img")[0].headers["x-auth-token"] == "hush"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["another port", "another name and port"])
def test_private_headers_never_leave_the_origin(server: WebServer, download: Download, host: str) -> None:
    with WebServer() as other:
        other.serve("/y.img", DATA)
        download.fetch(server.on("/x.img", redirect(other.url("/y.img", host))), private=TOKEN)
        (asked,) = other.requests("/y.img")
    assert "hush" not in str(asked)
    assert download.data == DATA


def test_private_headers_are_not_sent_when_a_redirect_changes_the_scheme(server: WebServer, download: Download) -> None:
    authority = Authority()
    with WebServer(tls=authority.server_context("127.0.0.1")) as secure:
        secure.serve("/y.img", DATA)
        uri = server.on("/x.img", redirect(secure.url("/y.img")))
        download.fetch(uri, private=TOKEN, tls=authority.trust_in(client_tls()))
        (asked,) = secure.requests("/y.img")
    assert "hush" not in str(asked)


def test_every_range_of_a_download_carries_the_private_headers(server: WebServer, download: Download) -> None:
    limits = DownloadSettings.model_validate({**PLAIN.model_dump(), "range_bytes": 1 << 20, "connections": 3})
    file = RangedFile(DATA * 12, etag="", accepts="")
    file.company = 2
    download.fetch(server.on("/x.img", file), private=TOKEN, limits=limits, pinned="sha512:ab")
    assert len(server.requests("/x.img")) > 1
    assert {request.headers.get("x-auth-token") for request in server.requests("/x.img")} == {"hush"}
    assert download.data == DATA * 12


@pytest.mark.parametrize(("host", "sent"), [("127.0.0.1", "hush"), ("localhost", None)])
def test_ranges_of_a_source_that_redirects_carry_private_headers_within_its_origin_alone(
    server: WebServer, download: Download, host: str, sent: str | None
) -> None:
    file = RangedFile(DATA * 12)
    file.company = 2
    server.on("/y.img", file)
    limits = DownloadSettings.model_validate({**PLAIN.model_dump(), "range_bytes": 1 << 20, "connections": 3})
    uri = server.on("/x.img", redirect(server.url("/y.img", host)))
    download.fetch(uri, private=TOKEN, limits=limits)
    assert len(server.requests("/x.img")) == 1
    assert len(server.requests("/y.img")) > 1
    assert {request.headers.get("x-auth-token") for request in server.requests("/y.img")} == {sent}
    assert download.data == DATA * 12


def test_a_pinned_source_goes_on_where_it_broke_although_its_server_proves_nothing(
    server: WebServer, download: Download
) -> None:
    uri = server.on("/x.img", cut(DATA, 100_000, etag=""), whole(DATA, etag=""))
    with pytest.raises(SourceTruncated):
        download.fetch(uri, pinned="sha512:ab")
    assert download.remembered == [Validators(total_bytes=len(DATA), pinned="sha512:ab")]
    done = download.fetch(uri, pinned="sha512:ab", resume=download.remembered[0])
    headers = server.requests("/x.img")[1].headers
    assert (headers["range"], "if-range" in headers) == ("bytes=100000-", False)
    assert (done.resumed_from, download.data) == (100_000, DATA)


@pytest.mark.parametrize(
    "resume", [Validators(total_bytes=len(DATA), pinned="sha512:ab"), Validators('"v1"', "", len(DATA))]
)
def test_a_part_of_another_version_is_not_continued(server: WebServer, download: Download, resume: Validators) -> None:
    download.path.write_bytes(b"other bytes")
    done = download.fetch(server.serve("/x.img", DATA, etag=""), pinned="sha512:cd", resume=resume)
    assert (done.resumed_from, download.data) == (0, DATA)


def read(uri: str, limit_bytes: int = 1000) -> bytes:
    source = WebSource(UriGate(LOOPBACK), PLAIN, 1 << 30)
    return source.read_document(SourceRequest(uri, TOKEN), limit_bytes, StopToken())


def test_a_document_is_read_whole_with_the_private_headers(server: WebServer) -> None:
    assert read(server.serve("/record", b"{}" * 500)) == b"{}" * 500
    assert server.requests("/record")[0].headers["x-auth-token"] == "hush"
    assert server.requests("/record")[0].headers["accept"] == "application/json"


def test_a_document_that_is_too_long_cut_or_refused_is_an_error(server: WebServer) -> None:
    with pytest.raises(SourceRefused, match="longer than 1000 bytes"):
        read(server.on("/endless", endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100)))
    with pytest.raises(SourceTruncated):
        read(server.on("/cut", cut(b"x" * 500, 100)))
    with pytest.raises(SourceRefused) as refused:
        read(server.on("/none", answer(404)))
    assert refused.value.status == 404
