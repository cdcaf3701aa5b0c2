"""The gate: names resolved once, addresses judged, verdicts for display."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import DownloadSettings, RemoteSettings, Settings, UriSettings
from tests.sources.conftest import Names
from transship.domain.errors import ConfigurationRefused, NamesUnanswered, UriRefused
from transship.domain.uri_filter import UriRules
from transship.sources.gate import SystemResolver, UriGate, gate_from, host_to_ascii, rules_from
from transship.sources.judging import explained

PUBLIC = "93.184.215.14"


def gate(table: dict[str, list[tuple[str, ...]]], rules: UriRules | None = None) -> UriGate:
    return UriGate(rules or UriRules(), Names(table))


def test_a_name_is_admitted_with_the_addresses_that_were_judged() -> None:
    admitted = gate({"host": [(PUBLIC, "2606:4700::1")]}).admit("http://host/x?token=1")
    assert admitted.addresses == (PUBLIC, "2606:4700::1")
    assert (admitted.uri.host, admitted.uri.target, admitted.rule) == ("host", "/x?token=1", "default")


def test_a_name_is_resolved_once() -> None:
    names = Names({"host": [(PUBLIC,), ("127.0.0.1",)]})
    assert UriGate(UriRules(), names).admit("http://host/").addresses == (PUBLIC,)
    assert names.asked == ["host"]


def test_an_address_is_not_resolved() -> None:
    names = Names({})
    assert UriGate(UriRules(), names).admit(f"http://{PUBLIC}/").addresses == (PUBLIC,)
    assert names.asked == []


@pytest.mark.parametrize(
    ("address", "rule"),
    [("127.0.0.1", "loopback_address"), ("10.0.0.1", "private_address"), ("169.254.169.254", "metadata_address")],
)
def test_u9_a_name_that_leads_inside_is_refused(address: str, rule: str) -> None:
    with pytest.raises(UriRefused) as refused:
        gate({"evil": [(address,)]}).admit("http://evil/")
    assert refused.value.rule == rule


def test_u13_only_passing_addresses_are_dialled() -> None:
    assert gate({"host": [("10.0.0.5", PUBLIC)]}).admit("http://host/").addresses == (PUBLIC,)


def test_u13_the_first_refusal_counts_when_no_address_passes() -> None:
    with pytest.raises(UriRefused) as refused:
        gate({"host": [("10.0.0.5", "127.0.0.1")]}).admit("http://host/")
    assert refused.value.rule == "private_address"


def test_a_mapped_address_is_dialled_as_what_it_is() -> None:
    assert gate({"host": [(f"::ffff:{PUBLIC}",)]}).admit("http://host/").addresses == (PUBLIC,)


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(UriRefused) as refused:
        gate({}).admit("http://nowhere/")
    assert refused.value.rule == "not_resolvable"


INTERNAL = {
    "host": (("mirror.example",), "http://mirror.example/x", ""),
    "host in other letters": (("Mirror.Example.",), "http://mirror.example/x", ""),
    "host does not lift the ports": (("mirror.example",), "http://mirror.example:4567/x", "allowed_ports"),
    "host and port": (("mirror.example:4567",), "http://mirror.example:4567/x", ""),
    "its other ports": (("mirror.example:4567",), "http://mirror.example/x", "private_address"),
    "another host on its port": (("mirror.example:4567",), "http://other.example:4567/x", "allowed_ports"),
    "another host": (("mirror.example",), "http://other.example/x", "private_address"),
    "network": (("10.0.0.0/8",), "http://mirror.example/x", ""),
    "another network": (("192.168.0.0/16",), "http://mirror.example/x", "private_address"),
    "network does not lift the ports": (("10.0.0.0/8",), "http://mirror.example:4567/x", "allowed_ports"),
    "mapped network": (("::ffff:10.0.0.0/104",), "http://mirror.example/x", ""),
    "address": (("127.0.0.1:4567",), "http://127.0.0.1:4567/x", ""),
    "IPv6 address": (("::1",), "http://[::1]/x", ""),
    "IPv6 address and port": (("[::1]:4567",), "http://[::1]:4567/x", ""),
    "public hosts need no entry": (("10.0.0.0/8",), "http://public.example/x", ""),
}
NAMES = {"mirror.example": [("10.0.0.5",)], "other.example": [("10.0.0.5",)], "public.example": [(PUBLIC,)]}


@pytest.mark.parametrize(("entries", "text", "rule"), INTERNAL.values(), ids=INTERNAL.keys())
def test_internal_hosts_may_be_private(entries: tuple[str, ...], text: str, rule: str) -> None:
    verdict = gate(NAMES, rules_from(UriSettings(internal_hosts=entries))).explain(text)
    assert (verdict.accepted, verdict.rule if rule else "") == (not rule, rule)


@pytest.mark.parametrize(
    ("lists", "rule"),
    [
        ({"allowed_hosts": ("other.example",)}, "allowed_hosts"),
        ({"allowed_networks": ("192.168.0.0/16",)}, "allowed_networks"),
        ({"disallowed_hosts": ("mirror.example",)}, "disallowed_hosts"),
        ({"disallowed_hosts": ("10.0.0.5",)}, "disallowed_hosts"),
        ({"disallowed_networks": ("10.0.0.0/24",)}, "disallowed_networks"),
        ({"allowed_ports": (), "disallowed_ports": (4567,)}, "disallowed_ports"),
        ({"allowed_schemes": ("https",)}, "allowed_schemes"),
    ],
)
def test_the_lists_hold_for_internal_hosts_too(lists: dict[str, tuple[str, ...]], rule: str) -> None:
    rules = rules_from(UriSettings.model_validate({"internal_hosts": ("mirror.example:4567", "10.0.0.0/8"), **lists}))
    with pytest.raises(UriRefused) as refused:
        gate(NAMES, rules).admit("http://mirror.example:4567/x")
    assert refused.value.rule == rule


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.1.1", "100.100.100.200", "fe80::1", "0.0.0.0", "224.0.0.1"]
)
def test_no_entry_opens_metadata_and_link_local_addresses(address: str) -> None:
    rules = rules_from(UriSettings(internal_hosts=("mirror.example", "0.0.0.0/0", "::/0", "metadata.google.internal")))
    site = gate({"mirror.example": [(address,)]}, rules)
    for text in ("http://mirror.example/", "http://metadata.google.internal/"):
        with pytest.raises(UriRefused, match="which no rule can allow"):
            site.admit(text)


@pytest.mark.parametrize("entry", ["mirror:0", "mirror:65536", "mirror:http", "http://mirror", "127.1", "a b", ":80"])
def test_an_entry_of_internal_hosts_that_is_none_stops_the_start(entry: str) -> None:
    with pytest.raises((ConfigurationRefused, ValidationError)):
        rules_from(UriSettings(internal_hosts=(entry,)))


def test_a_configured_region_is_reached_whatever_the_lists_say(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        uri=UriSettings(allowed_hosts=("mirror.example",), disallowed_networks=("127.0.0.0/8",)),
        remotes={
            "Two": RemoteSettings(url="http://127.0.0.1:9292"),
            "Bad": RemoteSettings(url="http://169.254.169.254"),
        },
    )
    region = gate_from(settings, settings.remote("two"))
    assert region.admit("http://127.0.0.1:9292/v2/images").rule == "remotes"
    for text in ("http://127.0.0.1:9293/v2/images", "http://127.0.0.1/v2/images", "http://127.0.0.2:9292/v2/images"):
        with pytest.raises(UriRefused):
            region.admit(text)
    with pytest.raises(UriRefused):
        gate_from(settings).admit("http://127.0.0.1:9292/v2/images")
    with pytest.raises(UriRefused, match="metadata"):
        gate_from(settings, settings.remote("Bad")).admit("http://169.254.169.254/v2/images")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://ⓔxample.com/", "example.com"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
        ("http://BÜCHER.example./", "xn--bcher-kva.example"),
        ("http://xn--bcher-kva.EXAMPLE/", "xn--bcher-kva.example"),
        ("http://example。com/", "example.com"),
        ("http://faß.example/", "xn--fa-hia.example"),
    ],
)
def test_u25_international_names_are_compared_in_their_ascii_form(text: str, host: str) -> None:
    listed = rules_from(UriSettings(allowed_hosts=(host,)))
    assert gate({host: [(PUBLIC,)]}, listed).admit(text).uri.host == host


def test_u25_a_look_alike_is_not_the_listed_name() -> None:
    listed = rules_from(UriSettings(allowed_hosts=("apple.example",)))
    with pytest.raises(UriRefused) as refused:
        gate({}, listed).admit("http://\u0430pple.example/")
    assert refused.value.rule == "allowed_hosts"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("http://\uff11\uff12\uff17.1/", "ipv4_form"),
        ("http://\u2100.example/", "host_invalid"),
        ("http://xn--a/", "host_invalid"),
        ("http://" + "ü" * 300 + "/", "host_invalid"),
    ],
)
def test_international_spellings_hide_nothing(text: str, rule: str) -> None:
    assert gate({}).explain(text).rule == rule


ODD_ADDRESSES = {
    "full-width digits": "\uff11\uff12\uff17.0.0.1",
    "ideographic dots": "127\u30020\u30020\u30021",
    "half-width ideographic dots": "127\uff610\uff610\uff611",
    "full-width dots": "127\uff0e0\uff0e0\uff0e1",
    "circled digits": "\u246027.0.0.1",
    "circled digits alone": "\u2460",
    "mathematical digits": "\U0001d7d9\U0001d7da\U0001d7df.0.0.1",
    "superscript digits": "\u00b9\u00b2\u2077.0.0.1",
    "Arabic digits": "\u06f1\u06f2\u06f7.0.0.1",
    "one full-width digit at the end": "93.184.215.1\uff14",
    "full-width hexadecimal": "0\uff587f000001",
    "full-width trailing dot": "127.0.0.1\uff0e",
    "octal with ideographic dots": "0177\u30020\u30020\u30021",
}


@pytest.mark.parametrize("host", ODD_ADDRESSES.values(), ids=ODD_ADDRESSES.keys())
@pytest.mark.parametrize("allowed", [(), ("127.0.0.1", "93.184.215.14")], ids=["by default", "the address allowed"])
def test_an_address_in_other_characters_is_no_second_spelling_of_it(host: str, allowed: tuple[str, ...]) -> None:
    verdict = gate({}, UriRules(allowed_hosts=allowed)).explain(f"http://{host}/")
    assert (verdict.accepted, verdict.rule) == (False, "ipv4_form")


UNSEEN = {
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "zero-width non-joiner": "\u200c",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "variation selector": "\ufe0f",
    "grapheme joiner": "\u034f",
    "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e",
    "tag": "\U000e0061",
    "Hangul filler": "\u3164",
}


@pytest.mark.parametrize("char", UNSEEN.values(), ids=UNSEEN.keys())
@pytest.mark.parametrize("host", ["127.0.0{}.1", "allo{}wed.example", "{}allowed.example", "allowed.example{}"])
def test_characters_that_nobody_sees_are_in_no_host(char: str, host: str) -> None:
    rules = UriRules(allowed_hosts=("127.0.0.1", "allowed.example"))
    verdict = gate({"allowed.example": [(PUBLIC,)]}, rules).explain(f"http://{host.format(char)}/")
    assert (verdict.accepted, verdict.rule) == (False, "host_invalid")


IPV6 = {
    "scope": ("[fe80::1%25lo]", "encoded_host"),
    "scope, not escaped": ("[fe80::1%lo]", "encoded_host"),
    "loopback with a scope": ("[::1%251]", "encoded_host"),
    "full-width digits": ("[\uff1a\uff1a\uff11]", "host_invalid"),
    "one full-width digit": ("[::\uff11]", "host_invalid"),
    "octal within": ("[::ffff:0177.0.0.1]", "host_invalid"),
    "short form within": ("[::ffff:127.1]", "host_invalid"),
    "zero-width space": ("[::1\u200b]", "host_invalid"),
    "mapped": ("[::ffff:127.0.0.1]", "loopback_address"),
    "mapped, written out": ("[0:0:0:0:0:FFFF:7F00:0001]", "loopback_address"),
    "NAT64 metadata": ("[64:ff9b::169.254.169.254]", "metadata_address"),
    "IPv4 in brackets": ("[127.0.0.1]", "host_invalid"),
    "compatible": ("[::7f00:1]", "loopback_address"),
}


@pytest.mark.parametrize(("host", "rule"), IPV6.values(), ids=IPV6.keys())
def test_odd_spellings_of_ipv6_are_refused_or_judged_by_where_they_lead(host: str, rule: str) -> None:
    verdict = gate({}).explain(f"http://{host}/")
    assert (verdict.accepted, verdict.rule) == (False, rule)


SECRET_HOSTS = [
    "user\uff1as3cr\u00e4t\uff20host",
    "us\u00e4r:s3cret\uff20host",
    "host\uff1ftoken=s3cr\u00e4t",
    "s3cr\u00e4t\u2488x",
]


@pytest.mark.parametrize("host", SECRET_HOSTS)
def test_a_refusal_repeats_nothing_of_what_was_no_host(host: str) -> None:
    verdict = gate({}).explain(f"http://{host}/")
    assert not verdict.accepted
    assert "s3cr" not in verdict.reason


def test_u24_hosts_of_the_settings_may_be_spelt_freely() -> None:
    rules = rules_from(
        UriSettings(allowed_hosts=("Mirror.Example.", "[::1]", "BÜCHER.example"), allowed_schemes=("HTTP",))
    )
    assert rules.allowed_hosts == ("mirror.example", "::1", "xn--bcher-kva.example")
    assert rules.allowed_schemes == ("http",)


@pytest.mark.parametrize("host", ["127.1", "a..b", "http://host", ""])
def test_a_host_of_the_settings_that_is_none_stops_the_start(host: str) -> None:
    with pytest.raises(ConfigurationRefused, match=r"uri\.disallowed_hosts"):
        rules_from(UriSettings(disallowed_hosts=(host,)))


def test_an_accepted_verdict_names_the_rule_and_the_addresses() -> None:
    rules = UriRules(allowed_hosts=("host",))
    verdict = gate({"host": [(PUBLIC,)]}, rules).explain("http://user@host/")
    assert (verdict.accepted, verdict.rule, verdict.addresses) == (False, "userinfo", ())
    verdict = gate({"host": [(PUBLIC,)]}, rules).explain("http://host/x?secret")
    assert (verdict.accepted, verdict.rule, verdict.addresses) == (True, "allowed_hosts", (PUBLIC,))
    assert verdict.uri == "http://host/x"
    assert "secret" not in verdict.reason


def test_the_systems_resolver_knows_localhost() -> None:
    assert {"127.0.0.1", "::1"} & set(SystemResolver().resolve("localhost", 80))


def failing_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def find(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("transship.sources.gate.socket.getaddrinfo", find)


NONE = [socket.gaierror(code, "x") for code in (socket.EAI_NONAME, socket.EAI_NODATA)] + [UnicodeError("x")]
SILENT = [socket.gaierror(code, "x") for code in (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM)] + [
    OSError("x")
]


@pytest.mark.parametrize("error", NONE, ids=repr)
def test_a_name_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing_with(monkeypatch, error)
    verdict = UriGate(UriRules()).explain("http://nowhere.example/")
    assert (verdict.rule, verdict.undecided) == ("not_resolvable", False)
    assert verdict.reason == "host nowhere.example has no address; check its spelling"


@pytest.mark.parametrize("error", SILENT, ids=repr)
def test_name_servers_that_do_not_answer_refuse_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing_with(monkeypatch, error)
    with pytest.raises(NamesUnanswered, match="the name servers do not answer for host mirror"):
        UriGate(UriRules()).admit("http://mirror.example/")
    verdict = UriGate(UriRules()).explain("http://mirror.example/")
    assert (verdict.accepted, verdict.undecided, verdict.rule) == (False, True, "names_unanswered")
    assert UriGate(UriRules(), proxied=True).admit("http://mirror.example/").addresses == ()


def test_a_verdict_is_given_in_time_whatever_the_resolver_does() -> None:
    released = threading.Event()

    class Stuck:
        def resolve(self, host: str, port: int) -> tuple[str, ...]:
            released.wait(300)
            return ()

    verdict = explained(UriGate(UriRules(), Stuck()), "http://mirror.example/", DownloadSettings(connect_timeout_s=0.1))
    released.set()
    assert (verdict.undecided, verdict.reason) == (True, "its name could not be resolved in time; try again later")


def test_ascii_names_stay_as_they_are() -> None:
    assert host_to_ascii("My_Host.example") == "my_host.example"


# --- networks ----------------------------------------------------------------------------------

NETWORKS: dict[str, tuple[UriSettings, str, str]] = {
    "named network, private": (UriSettings(allowed_networks=("10.0.0.0/8",)), "10.0.0.5", ""),
    "named network, mapped": (UriSettings(allowed_networks=("10.0.0.0/8",)), "::ffff:10.0.0.5", ""),
    "named network, by NAT64": (UriSettings(allowed_networks=("10.0.0.0/8",)), "64:ff9b::a00:5", ""),
    "the way alone is named": (UriSettings(allowed_networks=("64:ff9b::/96",)), "64:ff9b::a00:5", "allowed_networks"),
    "named network, loopback": (UriSettings(allowed_networks=("::1",)), "::1", ""),
    "other private network": (UriSettings(allowed_networks=("10.0.0.0/8",)), "192.168.1.1", "allowed_networks"),
    "public, not named": (UriSettings(allowed_networks=("10.0.0.0/8",)), PUBLIC, "allowed_networks"),
    "link-local, named": (UriSettings(allowed_networks=("169.254.0.0/16",)), "169.254.1.1", "link_local_address"),
    "metadata, named": (UriSettings(allowed_networks=("0.0.0.0/0",)), "169.254.169.254", "metadata_address"),
    "reserved, named": (UriSettings(allowed_networks=("0.0.0.0/0",)), "240.0.0.1", "reserved_address"),
    "denied network": (UriSettings(disallowed_networks=("93.184.0.0/16",)), PUBLIC, "disallowed_networks"),
    "denied, mapped": (UriSettings(disallowed_networks=("93.184.0.0/16",)), f"::ffff:{PUBLIC}", "disallowed_networks"),
    "denied in mapped form": (
        UriSettings(disallowed_networks=("::ffff:93.184.0.0/112",)),
        PUBLIC,
        "disallowed_networks",
    ),
    "denied in mapped form, mapped": (
        UriSettings(disallowed_networks=("::ffff:93.184.0.0/112",)),
        f"::ffff:{PUBLIC}",
        "disallowed_networks",
    ),
    "beside one denied in mapped form": (UriSettings(disallowed_networks=("::ffff:93.185.0.0/112",)), PUBLIC, ""),
    "named in mapped form": (UriSettings(allowed_networks=("::ffff:10.0.0.0/104",)), "10.0.0.5", ""),
    "named in mapped form, mapped": (UriSettings(allowed_networks=("::ffff:10.0.0.0/104",)), "::ffff:10.0.0.5", ""),
    "the mapped form denied": (
        UriSettings(disallowed_networks=("::ffff:0:0/96",)),
        f"::ffff:{PUBLIC}",
        "disallowed_networks",
    ),
    "the mapped form denied, written plainly": (UriSettings(disallowed_networks=("::ffff:0:0/96",)), PUBLIC, ""),
    "denied way": (UriSettings(disallowed_networks=("64:ff9b::/96",)), f"64:ff9b::{PUBLIC}", "disallowed_networks"),
    "beside a denied network": (UriSettings(disallowed_networks=("10.0.0.0/8",)), "10.0.0.5", "disallowed_networks"),
    "denied network does not allow others": (
        UriSettings(disallowed_networks=("10.0.0.0/8",)),
        "192.168.1.1",
        "private_address",
    ),
    "allow wins, deny is ignored": (
        UriSettings(allowed_networks=("10.0.0.0/8",), disallowed_networks=("10.0.0.0/8",)),
        "10.0.0.5",
        "",
    ),
    "a named host in a denied network": (
        UriSettings(allowed_hosts=("host",), disallowed_networks=("10.0.0.0/8",)),
        "10.0.0.5",
        "disallowed_networks",
    ),
    "a named host outside of the networks": (
        UriSettings(allowed_hosts=("host",), allowed_networks=("10.0.0.0/8",)),
        "192.168.1.1",
        "allowed_networks",
    ),
    "a denied host in a named network": (
        UriSettings(disallowed_hosts=("10.0.0.5",), allowed_networks=("10.0.0.0/8",)),
        "10.0.0.5",
        "disallowed_hosts",
    ),
}


@pytest.mark.parametrize(("settings", "address", "rule"), NETWORKS.values(), ids=NETWORKS.keys())
def test_networks_are_one_more_level(settings: UriSettings, address: str, rule: str) -> None:
    verdict = gate({"host": [(address,)]}, rules_from(settings)).explain("http://host/")
    assert (verdict.accepted, verdict.rule if rule else "") == (not rule, rule)


def test_networks_choose_among_the_addresses_of_a_name() -> None:
    rules = rules_from(UriSettings(allowed_networks=("10.0.0.0/8",)))
    assert gate({"host": [(PUBLIC, "10.0.0.5")]}, rules).admit("http://host/").addresses == ("10.0.0.5",)


@pytest.mark.parametrize("network", ["10.0.0.0/33", "10.0.0.5/8", "example.com", ""])
def test_a_network_of_the_settings_that_is_none_stops_the_start(network: str) -> None:
    with pytest.raises(ValidationError, match=r"write a network like 10\.0\.0\.0/8"):
        UriSettings(allowed_networks=(network,))
