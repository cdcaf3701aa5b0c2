"""Downloads through the configured proxy, and private authorities."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.settings import DownloadSettings, RemoteSettings, Settings, UriSettings
from tests.fakes.certificates import Authority
from tests.fakes.proxy_server import ProxyServer
from tests.fakes.range_server import RangedFile
from tests.fakes.web_server import WebServer, redirect
from tests.sources.conftest import PLAIN, Download, Names
from transship.domain.errors import (
    ConfigurationRefused,
    SourceNotAccepted,
    SourceRefused,
    SourceUnreachable,
    SourceUntrusted,
)
from transship.domain.uri_filter import DirectRoutes, UriRules
from transship.sources.gate import UriGate, direct_routes_from, gate_from, rules_from
from transship.sources.web import WebSource

DATA = bytes(range(256)) * 1200
ANY_PORT = UriRules(allowed_ports=())
NOBODY = Names({})


def through(proxy: ProxyServer | str, **changes: object) -> DownloadSettings:
    url = proxy if isinstance(proxy, str) else proxy.url
    return PLAIN.model_copy(update={"proxy_url": SecretStr(url), **changes})


@pytest.fixture
def proxy(server: WebServer) -> Iterator[ProxyServer]:
    """Resolves mirror.example, which no other resolver knows."""
    with ProxyServer({"mirror.example:80": (server.host, server.port)}) as running:
        yield running


def test_a_host_that_only_the_proxy_knows_is_reached(server: WebServer, proxy: ProxyServer, download: Download) -> None:
    server.serve("/x", DATA)
    download.fetch("http://mirror.example/x?a=b", rules=ANY_PORT, resolver=NOBODY, limits=through(proxy))
    assert download.data == DATA
    (asked,) = proxy.asked
    assert asked.startswith("GET http://mirror.example/x?a=b HTTP/1.1\r\nHost: mirror.example\r\n")
    assert "Proxy-Authorization" not in asked


def test_credentials_go_to_the_proxy_alone(server: WebServer, proxy: ProxyServer, download: Download) -> None:
    server.serve("/x", DATA)
    limits = through(f"http://user:p%40ss@127.0.0.1:{proxy.port}")
    download.fetch("http://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=limits)
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in proxy.asked[0]
    assert "p@ss" not in repr(limits)
    assert "p%40ss" not in repr(limits)


def test_https_goes_through_a_tunnel_with_the_name_checked(tmp_path: Path, download: Download) -> None:
    authority = Authority()
    bundle = tmp_path / "proxy.pem"
    bundle.write_text(authority.pem)
    with (
        WebServer(tls=authority.server_context("mirror.example")) as secure,
        ProxyServer({"mirror.example:443": (secure.host, secure.port)}) as proxy,
    ):
        secure.serve("/x", DATA)
        limits = through(f"http://user:pw@127.0.0.1:{proxy.port}", proxy_ca_file=bundle)
        download.fetch("https://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=limits)
        assert download.data == DATA
        assert proxy.asked[0].startswith("CONNECT mirror.example:443 HTTP/1.1\r\n")
        assert "proxy-authorization" not in secure.requests("/x")[0].headers
        with pytest.raises(SourceUntrusted):
            download.fetch("https://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=through(proxy))


def test_interim_answers_of_a_proxy_are_passed_over(tmp_path: Path, download: Download) -> None:
    authority = Authority()
    bundle = tmp_path / "proxy.pem"
    bundle.write_text(authority.pem)
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nVia: scanner\r\n\r\n"
    with (
        WebServer(tls=authority.server_context("mirror.example")) as secure,
        ProxyServer({"mirror.example:443": (secure.host, secure.port)}, interim=interim) as proxy,
    ):
        secure.serve("/x", DATA)
        limits = through(proxy, proxy_ca_file=bundle)
        download.fetch("https://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=limits)
    assert download.data == DATA


def test_a_proxys_authority_proves_nothing_where_the_proxy_is_not_used(tmp_path: Path, download: Download) -> None:
    authority = Authority()
    bundle = tmp_path / "proxy.pem"
    bundle.write_text(authority.pem)
    rules = UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=())
    with WebServer(tls=authority.server_context("127.0.0.1")) as secure:
        limits = through("http://127.0.0.1:9", proxy_ca_file=bundle, no_proxy=("127.0.0.1",))
        with pytest.raises(SourceUntrusted):
            download.fetch(secure.serve("/x", DATA), rules=rules, limits=limits)


def test_ranges_come_through_the_proxy_too(server: WebServer, proxy: ProxyServer, download: Download) -> None:
    file = RangedFile(DATA)
    file.company = 2
    server.on("/x", file)
    limits = through(proxy, connections=3, range_bytes=65536)
    download.fetch("http://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=limits)
    assert download.data == DATA
    assert len(proxy.asked) > 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_denies_is_final_and_one_that_cannot_is_not(scheme: str, download: Download) -> None:
    url = f"{scheme}://mirror.example/x"
    with ProxyServer({}, status=407) as proxy, pytest.raises(SourceRefused, match="407"):
        download.fetch(url, rules=ANY_PORT, resolver=NOBODY, limits=through(proxy))
    with ProxyServer({}) as proxy, pytest.raises(Exception, match=r"502|later") as failed:
        download.fetch(url, rules=ANY_PORT, resolver=NOBODY, limits=through(proxy))
    assert getattr(failed.value, "retryable", False)


def test_a_proxy_that_is_not_there_is_named(download: Download) -> None:
    with pytest.raises(SourceUnreachable, match="the configured proxy does not answer"):
        download.fetch("http://mirror.example/x", rules=ANY_PORT, resolver=NOBODY, limits=through("http://127.0.0.1:9"))


def test_names_are_judged_before_the_proxy_is_asked(proxy: ProxyServer, download: Download) -> None:
    inside = Names({"mirror.example": [("93.184.215.14", "10.0.0.5")]})
    for url, rule in (
        ("http://mirror.example/x", "private_address"),
        ("http://169.254.169.254/x", "metadata_address"),
        ("http://metadata.google.internal/x", "metadata_address"),
    ):
        with pytest.raises(SourceNotAccepted) as refused:
            download.fetch(url, rules=ANY_PORT, resolver=inside, limits=through(proxy))
        assert refused.value.rule == rule
    assert proxy.asked == []


def test_a_list_of_networks_asks_for_addresses_even_behind_a_proxy() -> None:
    listed = rules_from(UriSettings(allowed_networks=("93.184.215.0/24",)))
    assert UriGate(listed, NOBODY, proxied=True).explain("http://mirror.example/").rule == "not_resolvable"
    assert UriGate(UriRules(), NOBODY, proxied=True).explain("http://mirror.example/").accepted
    assert "proxy" in UriGate(UriRules(), NOBODY, proxied=True).explain("http://mirror.example/").reason


def test_the_gate_of_a_site_knows_whether_there_is_a_proxy(tmp_path: Path) -> None:
    proxied = Settings(home=tmp_path, download=DownloadSettings(proxy_url=SecretStr("http://127.0.0.1:3128")))
    assert gate_from(proxied).explain("http://nothing.invalid/").accepted
    assert not gate_from(Settings(home=tmp_path)).explain("http://nothing.invalid/").accepted


# --- without the proxy -------------------------------------------------------------------------


STRAIGHT = {
    "host": ("mirror.example", True),
    "host, spelt otherwise": ("MIRROR.Example.", True),
    "another host": ("other.example", False),
    "a host below": ("images.mirror.example", False),
    "domain": (".example", True),
    "the domain itself": (".mirror.example", True),
    "no domain, but an end of letters": (".rror.example", False),
    "network": ("127.0.0.0/8", True),
    "address": ("127.0.0.1", True),
    "mapped network": ("::ffff:127.0.0.0/104", True),
    "another network": ("10.0.0.0/8", False),
}


@pytest.mark.parametrize(("entry", "straight"), STRAIGHT.values(), ids=STRAIGHT.keys())
def test_no_proxy_names_hosts_domains_and_networks(
    server: WebServer, download: Download, entry: str, straight: bool
) -> None:
    server.serve("/x", DATA)
    names = Names({"mirror.example": [("127.0.0.1",)]})
    rules = UriRules(allowed_hosts=("mirror.example",), allowed_ports=())
    with ProxyServer({f"mirror.example:{server.port}": (server.host, server.port)}) as proxy:
        limits = through(proxy, no_proxy=(entry,))
        download.fetch(server.url("/x", "mirror.example"), rules=rules, resolver=names, limits=limits)
        assert download.data == DATA
        assert (proxy.asked == []) is straight


def test_a_network_must_hold_all_addresses_of_a_host() -> None:
    routes = DirectRoutes(networks=(ip_network("10.0.0.0/8"),))
    rules = UriRules(allowed_hosts=("both.example", "nowhere.example"))
    names = Names({"both.example": [("10.0.0.5", "93.184.215.14")]})
    gate = UriGate(rules, names, proxied=True, direct=routes)
    assert gate.admit("http://both.example/").proxied
    assert gate.admit("http://nowhere.example/").proxied


def test_what_is_reached_straight_is_judged_as_without_a_proxy() -> None:
    names = Names({"mirror.example": [("93.184.215.14", "10.0.0.5")], "inside.example": [("10.0.0.5",)]})
    routes = direct_routes_from(DownloadSettings(no_proxy=(".example",)))
    gate = UriGate(UriRules(), names, proxied=True, direct=routes)
    assert gate.admit("http://mirror.example/").addresses == ("93.184.215.14",)
    assert gate.explain("http://inside.example/").rule == "private_address"
    assert gate.explain("http://nowhere.example/").rule == "not_resolvable"
    assert gate.explain("http://mirror.example/").reason.endswith("it is reached at 93.184.215.14")


def test_each_hop_of_a_redirect_takes_its_own_way(server: WebServer, proxy: ProxyServer, download: Download) -> None:
    server.serve("/x", DATA)
    inside = server.on("/a", redirect("http://mirror.example/x"))
    rules = UriRules(allowed_hosts=("127.0.0.1", "mirror.example"), allowed_ports=())
    download.fetch(inside, rules=rules, resolver=NOBODY, limits=through(proxy, no_proxy=("127.0.0.0/8",)))
    assert download.data == DATA
    assert [head.split(" ")[1] for head in proxy.asked] == ["http://mirror.example/x"]


@pytest.mark.parametrize(
    ("url", "through_proxy", "proxied"),
    [
        ("http://127.0.0.1:9292/v2/images", False, False),
        ("http://127.0.0.1:9292/v2/images", True, True),
        ("http://127.0.0.1:9293/v2/images", False, True),
    ],
)
def test_configured_regions_are_reached_straight_unless_told(
    tmp_path: Path, url: str, through_proxy: bool, proxied: bool
) -> None:
    settings = Settings(
        home=tmp_path,
        download=DownloadSettings(proxy_url=SecretStr("http://127.0.0.1:3128")),
        remotes={"Two": RemoteSettings(url="http://127.0.0.1:9292", through_proxy=through_proxy)},
    )
    uri = UriSettings(internal_hosts=("127.0.0.1:9292", "127.0.0.1:9293"))
    assert gate_from(settings.model_copy(update={"uri": uri})).admit(url).proxied is proxied


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://mirror.example", "*", "", "."])
def test_an_entry_of_no_proxy_that_is_none_stops_the_start(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ConfigurationRefused, match=r"download\.no_proxy"):
        gate_from(Settings(home=tmp_path, download=DownloadSettings(no_proxy=(entry,))))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:3128", "https://p:1", "http://p", "http://p:99999", "socks5://p:1", "http://p:1/x"]
)
def test_a_proxy_address_that_cannot_be_used_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError, match="proxy_url is not a usable URL; write http://host:port"):
        DownloadSettings(proxy_url=SecretStr(url))


# --- authorities -------------------------------------------------------------------------------


def test_a_private_authority_is_trusted_besides_the_systems(tmp_path: Path, download: Download) -> None:
    authority = Authority()
    bundle = tmp_path / "ca.pem"
    bundle.write_text(authority.pem)
    rules = UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=())
    with WebServer(tls=authority.server_context("127.0.0.1")) as secure:
        url = secure.serve("/x", DATA)
        limits = PLAIN.model_copy(update={"ca_file": bundle})
        assert download.fetch(url, rules=rules, limits=limits).size == len(DATA)
        with pytest.raises(SourceUntrusted):
            download.fetch(url, rules=rules)


@pytest.mark.parametrize("option", ["ca_file", "proxy_ca_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_cannot_be_used_is_named(tmp_path: Path, option: str, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    limits = through("http://127.0.0.1:9", **{option: bundle})
    with pytest.raises(ConfigurationRefused, match=rf"download\.{option}"):
        WebSource(UriGate(UriRules()), limits, 1)
