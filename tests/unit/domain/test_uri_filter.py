"""Which URIs are accepted, rule by rule."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transship.domain.errors import UriRefused
from transship.domain.import_request import described, parse_import_request
from transship.domain.methods import ImportMethod
from transship.domain.uri_filter import (
    HostPort,
    HostUnusable,
    SourceUri,
    UriRules,
    canonical_host,
    display_uri,
    join_location,
    judge_address,
    judge_redirect,
    judge_uri,
    may_hold_secrets,
    parse_uri,
)

DEFAULTS = UriRules()


def admitted(text: str, rules: UriRules = DEFAULTS) -> SourceUri:
    uri = parse_uri(text, rules)
    judge_uri(uri, rules)
    return uri


def rule_that_refuses(text: str, rules: UriRules = DEFAULTS) -> str:
    with pytest.raises(UriRefused) as refused:
        admitted(text, rules)
    return refused.value.rule


REFUSED = {
    "U1 file": ("file:///etc/passwd", "allowed_schemes"),
    "U1 FILE": ("FILE:///etc/passwd", "allowed_schemes"),
    "U1 no scheme, two slashes": ("//host/x", "scheme_missing"),
    "U1 no scheme": ("host/x", "scheme_missing"),
    "U1 empty": ("", "scheme_missing"),
    "U1 no host": ("http:///x", "host_missing"),
    "U1 no host but a port": ("http://:80/x", "host_missing"),
    "U1 nothing after the scheme": ("http:", "host_missing"),
    "U1 one slash": ("http:/host/x", "host_missing"),
    "U2 device": ("file:///dev/zero", "allowed_schemes"),
    "U3 ftp": ("ftp://host/x", "allowed_schemes"),
    "U3 gopher": ("gopher://host/x", "allowed_schemes"),
    "U3 data": ("data:text/plain,x", "allowed_schemes"),
    "U3 jar": ("jar:http://host/x", "allowed_schemes"),
    "U3 dict": ("dict://host/x", "allowed_schemes"),
    "U3 unix": ("unix:/run/x", "allowed_schemes"),
    "U4 port 22": ("http://host:22/", "allowed_ports"),
    "U4 port 8080": ("http://host:8080/", "allowed_ports"),
    "U5 port 0": ("http://host:0/", "port_zero"),
    "U5 port 000": ("http://host:000/", "port_zero"),
    "U6 port 65536": ("http://host:65536/", "port_invalid"),
    "U6 huge port": ("http://host:80000000000000000000/", "port_invalid"),
    "U6 two ports": ("http://host:80:80/", "port_invalid"),
    "U6 plus": ("http://host:+80/", "port_invalid"),
    "U6 minus": ("http://host:-80/", "port_invalid"),
    "U6 full width": ("http://host:\uff18\uff10/", "port_invalid"),
    "U6 letters": ("http://host:http/", "port_invalid"),
    "U7 decimal": ("http://2130706433/", "ipv4_form"),
    "U7 octal number": ("http://017700000001/", "ipv4_form"),
    "U7 hexadecimal": ("http://0x7f000001/", "ipv4_form"),
    "U7 octal part": ("http://0177.0.0.1/", "ipv4_form"),
    "U7 octal padded": ("http://0177.0.0.01/", "ipv4_form"),
    "U7 hexadecimal part": ("http://127.0x0.0.1/", "ipv4_form"),
    "U7 hexadecimal last part": ("http://127.0.0.0x1/", "ipv4_form"),
    "U7 hexadecimal prefix alone": ("http://127.0.0.0x/", "ipv4_form"),
    "U7 short": ("http://127.1/", "ipv4_form"),
    "U7 zero": ("http://0/", "ipv4_form"),
    "U7 five parts": ("http://1.2.3.4.5/", "ipv4_form"),
    "U7 part above 255": ("http://1.2.3.256/", "ipv4_form"),
    "U10 metadata name": ("http://metadata.google.internal/", "metadata_address"),
    "U10 metadata name, trailing dot": ("http://METADATA.google.internal./", "metadata_address"),
    "U11 scope": ("http://[fe80::1%25eth0]/", "encoded_host"),
    "IPv6 without brackets": ("http://::1/", "port_invalid"),
    "IPv6 bracket open": ("http://[::1/", "host_invalid"),
    "IPv6 nonsense": ("http://[::g]/", "host_invalid"),
    "IPv6 text after bracket": ("http://[::1]x/", "host_invalid"),
    "IPvFuture": ("http://[v1.x]/", "host_invalid"),
    "U20 user and password": ("http://user:pass@host/", "userinfo"),
    "U20 user": ("http://user@host/", "userinfo"),
    "U20 empty user": ("http://@host/", "userinfo"),
    "U21 at": ("http://allowed@evil/", "userinfo"),
    "U21 backslash at": ("http://allowed\\@evil/", "backslash"),
    "U21 backslash": ("http://evil\\.allowed/", "backslash"),
    "U22 escaped dot": ("http://allowed%2eevil/", "encoded_host"),
    "U22 escaped NUL": ("http://allowed%00.evil/", "encoded_host"),
    "U22 escaped CRLF in host": ("http://a%0d%0ab/", "encoded_host"),
    "U22 escaped CRLF in path": ("http://host/a%0d%0aX: y", "control_character"),
    "U22 escaped CRLF in path alone": ("http://host/a%0D%0Ab", "control_character"),
    "U22 NUL": ("http://host/\0", "control_character"),
    "U22 tab in scheme": ("ht\ttp://host/", "control_character"),
    "U22 line end": ("http://host/\r\nX-Y: z", "control_character"),
    "U22 leading space": (" http://host/", "control_character"),
    "U22 space in path": ("http://host/a b", "control_character"),
    "U22 no-break space": ("http://host/a\u00a0b", "control_character"),
    "U22 next line": ("http://host/a\u0085b", "control_character"),
    "U22 lone surrogate": ("http://host/\ud800", "control_character"),
    "U25 international without an encoder": ("http://ⓔxample.com/", "host_invalid"),
    "U27 long": ("http://host/" + "a" * 65536, "max_length"),
    "U27 long label": (f"http://{'a' * 300}.example/", "host_invalid"),
    "U27 empty label": ("http://a..b/", "host_invalid"),
    "U27 leading dot": ("http://.host/", "host_invalid"),
    "U27 dots": ("http://host../", "host_invalid"),
    "U27 dot alone": ("http://./", "host_invalid"),
    "U27 long name": (f"http://{'.'.join(['a' * 60] * 5)}/", "host_invalid"),
    "hyphen at the start": ("http://-host/", "host_invalid"),
    "sign in host": ("http://ho,st/", "host_invalid"),
}


@pytest.mark.parametrize(("text", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_a_uri_is_refused_by_its_rule(text: str, rule: str) -> None:
    assert rule_that_refuses(text) == rule


PASSES = {
    "name": ("http://host/x.img", "http://host/x.img"),
    "U24 case and trailing dot": ("HTTP://Allowed.EXAMPLE./X", "http://allowed.example/X"),
    "U29 no port": ("https://host/x", "https://host/x"),
    "port 80": ("http://host:80/x", "http://host/x"),
    "the other default port": ("http://host:443/x", "http://host:443/x"),
    "empty port": ("http://host:/x", "http://host/x"),
    "no path": ("http://host", "http://host/"),
    "query without path": ("http://host?a=b", "http://host/?a=b"),
    "fragment dropped": ("http://host/x#part", "http://host/x"),
    "U21 hash ends the host": ("http://evil#@allowed/", "http://evil/"),
    "U21 question mark ends the host": ("http://evil?@allowed/", "http://evil/?@allowed/"),
    "IPv4": ("http://1.1.1.1/", "http://1.1.1.1/"),
    "IPv4 with trailing dot": ("http://1.1.1.1./", "http://1.1.1.1/"),
    "IPv6": ("http://[2606:4700:0:0::0001]:443/", "http://[2606:4700::1]:443/"),
    "underscore": ("http://my_host.example/", "http://my_host.example/"),
    "punycode": ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
    "digits in a name": ("http://1.2.3.4.example/", "http://1.2.3.4.example/"),
    "escapes stay": ("http://host/a%2Fb%20c?d=%0a", "http://host/a%2Fb%20c?d=%0a"),
    "lone per cent": ("http://host/100%?a=5%z", "http://host/100%25?a=5%25z"),
    "other characters are escaped": ('http://host/ü"<>', "http://host/%C3%BC%22%3C%3E"),
    "at in the path": ("http://host/x@v1", "http://host/x@v1"),
    "signed address": ("https://b.s3.example/k?X-Sig=a%2Fb&x[]=1", "https://b.s3.example/k?X-Sig=a%2Fb&x[]=1"),
}


@pytest.mark.parametrize(("text", "canonical"), PASSES.values(), ids=PASSES.keys())
def test_a_uri_passes_in_its_canonical_form(text: str, canonical: str) -> None:
    assert admitted(text).text == canonical


def test_the_port_stays_as_written_and_the_effective_one_is_the_schemes() -> None:
    assert (admitted("https://host/").port, admitted("https://host/").effective_port) == (None, 443)
    assert (admitted("https://host:80/").port, admitted("https://host:80/").effective_port) == (80, 80)


def test_the_parts_for_people_hold_no_query() -> None:
    uri = admitted("http://host/x?token=secret#secret")
    assert uri.display == "http://host/x"
    assert "secret" not in repr(uri)


# --- the lists of the founding document -------------------------------------------------------

LISTS = {
    "U28 allowed scheme wins": (UriRules(allowed_schemes=("http",), disallowed_schemes=("http",)), "http://h/", ""),
    "U28 allowed host wins": (UriRules(allowed_hosts=("h",), disallowed_hosts=("h",)), "http://h/", ""),
    "U28 allowed port wins": (UriRules(allowed_ports=(80,), disallowed_ports=(80,)), "http://h:80/", ""),
    "scheme not in the allow list": (UriRules(allowed_schemes=("https",)), "http://h/", "allowed_schemes"),
    "scheme in the deny list": (
        UriRules(allowed_schemes=(), disallowed_schemes=("http",)),
        "http://h/",
        "disallowed_schemes",
    ),
    "scheme not in the deny list": (UriRules(allowed_schemes=(), disallowed_schemes=("http",)), "https://h/", ""),
    "host not in the allow list": (UriRules(allowed_hosts=("other",)), "http://h/", "allowed_hosts"),
    "host in the deny list": (UriRules(disallowed_hosts=("localhost",)), "http://localhost./", "disallowed_hosts"),
    "address in the deny list": (UriRules(disallowed_hosts=("1.1.1.1",)), "http://1.1.1.1/", "disallowed_hosts"),
    "port not in the allow list": (UriRules(allowed_ports=(8080,)), "http://h:80/", "allowed_ports"),
    "U29 no port, default port not allowed": (UriRules(allowed_ports=(8080,)), "http://h/", ""),
    "port in the deny list": (UriRules(allowed_ports=(), disallowed_ports=(81,)), "http://h:81/", "disallowed_ports"),
    "port not in the deny list": (UriRules(allowed_ports=(), disallowed_ports=(81,)), "http://h:82/", ""),
    "no lists, ftp": (UriRules(allowed_schemes=()), "ftp://h/", "scheme_unsupported"),
    "no lists, file with a host": (UriRules(allowed_schemes=()), "file://h/etc/passwd", "scheme_unsupported"),
    "ftp allowed": (UriRules(allowed_schemes=("ftp",)), "ftp://h/", "scheme_unsupported"),
    "metadata allowed": (
        UriRules(allowed_hosts=("metadata.google.internal",)),
        "http://metadata.google.internal/",
        "metadata_address",
    ),
}


@pytest.mark.parametrize(("rules", "text", "refused_by"), LISTS.values(), ids=LISTS.keys())
def test_an_allow_list_that_is_set_decides_alone_at_its_level(rules: UriRules, text: str, refused_by: str) -> None:
    if refused_by:
        assert rule_that_refuses(text, rules) == refused_by
    else:
        admitted(text, rules)


@pytest.mark.parametrize(
    ("rules", "text", "passed_by"),
    [
        (DEFAULTS, "http://h/", "default"),
        (DEFAULTS, "http://h:80/", "allowed_ports"),
        (UriRules(allowed_hosts=("h",)), "http://h:80/", "allowed_hosts"),
        (UriRules(allowed_ports=()), "http://h:81/", "default"),
        (UriRules(internal_hosts=(HostPort("h"),)), "http://h/", "internal_hosts"),
        (UriRules(internal_hosts=(HostPort("h", 81),)), "http://h:81/", "internal_hosts"),
        (UriRules(internal_hosts=(HostPort("h", 81),), allowed_hosts=("h",)), "http://h:81/", "allowed_hosts"),
    ],
)
def test_the_rule_that_let_a_uri_pass_is_named(rules: UriRules, text: str, passed_by: str) -> None:
    assert judge_uri(parse_uri(text, rules), rules) == passed_by


def test_a_region_lifts_host_and_port_for_its_pair_alone() -> None:
    rules = UriRules(allowed_hosts=("mirror",), region=HostPort("127.0.0.1", 4567))
    assert judge_uri(parse_uri("http://127.0.0.1:4567/x", rules), rules) == "remotes"
    for text in ("http://127.0.0.1:4568/x", "http://127.0.0.2:4567/x", "http://127.0.0.1/x"):
        with pytest.raises(UriRefused):
            judge_uri(parse_uri(text, rules), rules)


@pytest.mark.parametrize(
    "rules",
    [
        UriRules(region=HostPort("metadata.google.internal", 80)),
        UriRules(internal_hosts=(HostPort("metadata.google.internal", 80),)),
    ],
    ids=["region", "internal host"],
)
def test_no_rule_on_metadata_names_is_lifted(rules: UriRules) -> None:
    uri = parse_uri("http://metadata.google.internal/", rules)
    with pytest.raises(UriRefused, match="metadata"):
        judge_uri(uri, rules)


# --- addresses ---------------------------------------------------------------------------------

ADDRESSES = {
    "public": ("93.184.215.14", ""),
    "public IPv6": ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", ""),
    "public, mapped": ("::ffff:93.184.215.14", ""),
    "public by NAT64": ("64:ff9b::93.184.215.14", ""),
    "public by 6to4": ("2002:5db8:d70e::1", ""),
    "U9 loopback": ("127.0.0.1", "loopback_address"),
    "loopback elsewhere": ("127.255.255.254", "loopback_address"),
    "loopback IPv6": ("::1", "loopback_address"),
    "U10 metadata": ("169.254.169.254", "metadata_address"),
    "U10 Alibaba": ("100.100.100.200", "metadata_address"),
    "U10 AWS IPv6": ("fd00:ec2::254", "metadata_address"),
    "U10 Azure": ("168.63.129.16", "metadata_address"),
    "U11 metadata, mapped": ("::ffff:169.254.169.254", "metadata_address"),
    "U11 loopback, mapped": ("::ffff:7f00:1", "loopback_address"),
    "U11 loopback, compatible": ("::127.0.0.1", "loopback_address"),
    "loopback by NAT64": ("64:ff9b::127.0.0.1", "loopback_address"),
    "metadata by NAT64": ("64:ff9b::169.254.169.254", "metadata_address"),
    "local NAT64": ("64:ff9b:1::7f00:1", "reserved_address"),
    "private by 6to4": ("2002:0a00:0005::1", "private_address"),
    "Teredo": ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "reserved_address"),
    "private 10": ("10.0.0.5", "private_address"),
    "private 172.16": ("172.31.255.255", "private_address"),
    "beside private 172": ("172.32.0.1", ""),
    "private 192.168": ("192.168.1.1", "private_address"),
    "carrier-grade NAT": ("100.64.0.1", "private_address"),
    "unique local": ("fd12:3456::1", "private_address"),
    "site local": ("fec0::1", "private_address"),
    "link-local": ("169.254.1.1", "link_local_address"),
    "link-local IPv6": ("fe80::1", "link_local_address"),
    "link-local with scope": ("fe80::1%eth0", "link_local_address"),
    "unspecified": ("0.0.0.0", "unspecified_address"),
    "this network": ("0.1.2.3", "unspecified_address"),
    "unspecified IPv6": ("::", "unspecified_address"),
    "multicast": ("224.0.0.1", "multicast_address"),
    "multicast IPv6": ("ff02::1", "multicast_address"),
    "reserved": ("240.0.0.1", "reserved_address"),
    "broadcast": ("255.255.255.255", "reserved_address"),
    "documentation": ("203.0.113.9", "reserved_address"),
    "documentation IPv6": ("2001:db8::1", "reserved_address"),
    "discard": ("100::1", "reserved_address"),
    "unassigned": ("4000::1", "reserved_address"),
    "nonsense": ("localhost", "address_invalid"),
}
NAMED_MAY = {"loopback_address", "private_address", ""}


def rule_for_address(address: str, rules: UriRules) -> str:
    uri = parse_uri("http://named/x", rules)
    try:
        judge_address(address, uri, rules)
    except UriRefused as refused:
        return refused.rule
    return ""


@pytest.mark.parametrize(("address", "rule"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_is_judged_by_where_it_leads(address: str, rule: str) -> None:
    assert rule_for_address(address, DEFAULTS) == rule


@pytest.mark.parametrize(("address", "rule"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_named_host_may_be_private_or_loopback_and_no_more(address: str, rule: str) -> None:
    expected = "" if rule in NAMED_MAY else rule
    assert rule_for_address(address, UriRules(allowed_hosts=("named",))) == expected
    assert rule_for_address(address, UriRules(region=HostPort("named", 80))) == expected
    assert rule_for_address(address, UriRules(internal_hosts=(HostPort("named", 80),))) == expected
    assert rule_for_address(address, UriRules(internal_hosts=(HostPort("other", 80),))) == rule


def test_a_denied_address_is_denied_under_any_name() -> None:
    rules = UriRules(disallowed_hosts=("93.184.215.14",))
    assert rule_for_address("93.184.215.14", rules) == "disallowed_hosts"
    assert rule_for_address("::ffff:93.184.215.14", rules) == "disallowed_hosts"


# --- redirects ---------------------------------------------------------------------------------

LOCATIONS = {
    "absolute": ("https://b/y", "https://b/y"),
    "U15 file": ("file:///etc/passwd", "file:///etc/passwd"),
    "U15 other host": ("//b/y", "http://b/y"),
    "U15 slashes alone": ("//", "http://"),
    "path": ("/y?z", "http://a:443/y?z"),
    "query": ("?z", "http://a:443/dir/x?z"),
    "relative": ("y", "http://a:443/dir/y"),
    "up": ("../y", "http://a:443/y"),
    "relative with a colon later": ("y/z:1", "http://a:443/dir/y/z:1"),
}


@pytest.mark.parametrize(("location", "meant"), LOCATIONS.values(), ids=LOCATIONS.keys())
def test_a_location_is_read_relative_to_where_it_came_from(location: str, meant: str) -> None:
    assert join_location(parse_uri("http://a:443/dir/x?q=/", DEFAULTS), location) == meant


@pytest.mark.parametrize("location", ["", "#part", "/a\r\nb", "//a b/x", "http://a b/x", "\\\\evil\\x", "/a\0"])
def test_a_location_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(UriRefused):
        join_location(parse_uri("http://a/x", DEFAULTS), location)


def test_a_redirect_out_of_tls_needs_its_option() -> None:
    secure, plain = parse_uri("https://a/", DEFAULTS), parse_uri("http://a/", DEFAULTS)
    with pytest.raises(UriRefused) as refused:
        judge_redirect(secure, plain, DEFAULTS)
    assert refused.value.rule == "allow_https_to_http"
    judge_redirect(secure, plain, UriRules(allow_https_to_http=True))
    judge_redirect(plain, secure, DEFAULTS)


# --- for people --------------------------------------------------------------------------------

SHOWN = {
    "plain": ("http://host:81/a/b", "http://host:81/a/b"),
    "user info": ("http://user:pass@host/a", "http://host/a"),
    "two ats": ("http://user:p@ss@host/a", "http://host/a"),
    "query and fragment": ("http://host/a?token=1#x", "http://host/a"),
    "fragment then query": ("http://host/a#x?y", "http://host/a"),
    "slash in the password": ("http://user:pa/ss@host/a", "http://(not shown)"),
    "question mark in the password": ("http://user:pa?ss@host/a", "http://(not shown)"),
    "hash in the password": ("http://user:pa#ss@host/a", "http://(not shown)"),
    "backslash": ("http://allowed\\@evil/", "http://evil/"),
    "no scheme": ("host/a?b", "host/a"),
    "no scheme, user": ("user:pass@host/a", "(not shown)"),
    "split scheme": ("ht\ntp://user:pass@host/", "(not shown)"),
    "control characters": ("http://host/\x1b[31m", "http://host/\ufffd[31m"),
    "right to left": ("http://host/\u202egmi", "http://host/\ufffdgmi"),
    "long": ("http://host/" + "a" * 5000, "http://host/" + "a" * 288 + "…"),
    "empty": ("", ""),
    "path parameter": ("http://host/a;jsessionid=s3cret", "http://host/a"),
    "path parameter within": ("http://host/a;sig=s3/cret/b.img", "http://host/a"),
    "matrix parameters": ("http://host/a;v=1;token=s3cret/b", "http://host/a"),
    "path parameter of no path": ("http://host;token=s3cret/", "http://(not shown)"),
    "escaped question mark": ("http://host/a%3Ftoken=s3cret", "http://host/a"),
    "escaped twice": ("http://host/a%253Ftoken=s3cret", "http://host/a"),
    "escaped often": ("http://host/a%2525253ftoken=s3cret", "http://host/a"),
    "escaped semicolon": ("http://host/a%3Bjsessionid=s3cret", "http://host/a"),
    "escaped hash": ("http://host/a%23s3cret", "http://host/a"),
    "full-width question mark": ("http://host/a\uff1ftoken=s3cret", "http://host/a"),
    "full-width question mark, escaped": ("http://host/a%EF%BC%9Ftoken=s3cret", "http://host/a"),
    "full-width semicolon": ("http://host/a\uff1bsid=s3cret", "http://host/a"),
    "Greek question mark": ("http://host/a\u037esid=s3cret", "http://host/a"),
    "small question mark": ("http://host/a\ufe56token=s3cret", "http://host/a"),
    "two question marks in one": ("http://host/a\u2047token=s3cret", "http://host/a"),
    "full-width hash": ("http://host/a\uff03s3cret", "http://host/a"),
    "query without its mark": ("http://host/a.img&token=s3cret", "http://host/a.img"),
    "full-width query": ("http://host\uff1ftoken=s3cret", "http://(not shown)"),
    "escaped query": ("http://host%3Ftoken=s3cret", "http://(not shown)"),
    "full-width user info": ("http://user\uff1as3cret\uff20host/a", "http://(not shown)"),
    "small user info": ("http://user:s3cret\ufe6bhost/a", "http://(not shown)"),
    "escaped user info": ("http://user%3As3cret%40host/a", "http://(not shown)"),
    "full-width user info without scheme": ("user:s3cret\uff20host/a", "(not shown)"),
    "user info in the path": ("http://host/user:s3cret@other/a", "http://host"),
    "address in the path": ("http://host/http://user:s3/cret@other/a", "http://host/http"),
    "escaped address in the path": ("http://host/http%3A%2F%2Fuser%3As3cret%40other", "http://host/http"),
    "long address in the path": (f"http://host/http://u:{'s3cret' * 1000}@other", "http://host/http"),
    "at in the path": ("http://host/x@v1", "http://host/x@v1"),
    "ampersand in the path": ("http://host/R&D/a", "http://host/R&D/a"),
    "pairs in the path": ("http://host/dt=2026-01-01/a", "http://host/dt=2026-01-01/a"),
    "other escapes": ("http://host/a%20b%2Fc%C3%BC", "http://host/a%20b%2Fc%C3%BC"),
    "international": ("http://b\u00fccher.example:80/\u00fc", "http://b\u00fccher.example:80/\u00fc"),
}


@pytest.mark.parametrize("text", [text for text, _ in SHOWN.values() if "s3" in text])
def test_no_reader_of_a_uri_shows_what_may_be_secret(text: str) -> None:
    """Neither the address that passes, nor the refusal, nor what becomes of the task's input and its name."""
    try:
        shown = str(parse_uri(text, UriRules(max_length=10_000)).display)
    except UriRefused as refused:
        shown = str(refused)
    assert "s3" not in shown
    assert may_hold_secrets(text)
    request = parse_import_request({"method": {"name": "web-download", "uri": text}}, [ImportMethod.WEB_DOWNLOAD])
    assert "s3" not in str(described(request))


@pytest.mark.parametrize(("text", "shown"), SHOWN.values(), ids=SHOWN.keys())
def test_a_uri_is_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert display_uri(text) == shown


SECRET = st.text("abcdefghijklmnopqrstuvwxyz0123456789%+=", min_size=1).map(lambda text: f"s3cret{text}")


@given(st.text())
def test_parsing_any_text_raises_nothing_but_the_refusal(text: str) -> None:
    display_uri(text)
    for candidate in (text, f"http://{text}", f"http://host/{text}", f"http://host:{text}", f"http://[{text}]/"):
        try:
            uri = parse_uri(candidate, DEFAULTS)
        except UriRefused:
            continue
        assert uri.text.isascii()
        assert uri.text.isprintable()
        assert " " not in uri.text
        assert parse_uri(uri.text, DEFAULTS).text == uri.text


@given(st.text("abc/:@?#;&=%2345fF\uff1f\uff20\u00fc"))
def test_what_is_shown_of_a_uri_is_shown_again_as_it_is(path: str) -> None:
    """A flow's form takes it as its parameter."""
    for text in (f"http://host/{path}", f"http://{path}"):
        assert not may_hold_secrets(display_uri(text))
        try:
            shown = parse_uri(text, DEFAULTS).display
        except UriRefused:
            continue
        assert not may_hold_secrets(shown)


@given(SECRET, SECRET, SECRET, SECRET)
def test_no_refusal_shows_user_info_query_or_fragment(user: str, password: str, query: str, fragment: str) -> None:
    text = f"ftp://{user}:{password}@host:99/x?{query}#{fragment}"
    assert "s3cret" not in display_uri(text)
    for scheme in ("ftp", "http"):
        with pytest.raises(UriRefused) as refused:
            admitted(text.replace("ftp", scheme, 1))
        assert "s3cret" not in str(refused.value)


@given(st.ip_addresses())
def test_every_address_is_judged_and_a_named_host_is_never_refused_more(address: object) -> None:
    strict = rule_for_address(str(address), DEFAULTS)
    named = rule_for_address(str(address), UriRules(allowed_hosts=("named",)))
    assert named in ("", strict)


@given(st.text())
def test_a_canonical_host_is_its_own_canonical_form(text: str) -> None:
    try:
        host = canonical_host(text)
    except HostUnusable:
        return
    assert canonical_host(host) == host


def test_an_unusable_host_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(HostUnusable("rule", "reason")))
    assert (again.rule, str(again)) == ("rule", "reason")
