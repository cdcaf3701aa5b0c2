"""Which URIs may be imported from, decided on text and addresses alone.

Three questions, asked in this order: is the text a URI that every reader understands alike
(`parse_uri`), do its scheme, host and port pass the site's lists (`judge_uri`), and may the
addresses that its name stands for be dialled (`judge_address`). Nothing here resolves a name;
whoever does must dial exactly the addresses that were judged.

The lists work as the founding document of image import says: an allow list that is set decides
alone at its level, and a URI without a port passes whatever the scheme's default port is. Below
the lists stand limits that no list lifts: http and https only, no credentials, no spelling that
two parsers could read in two ways, no link-local or metadata address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote, urljoin

from transship.domain.errors import UriRefused

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The schemes that a download can speak whatever the lists say, with their default ports."""

METADATA_HOSTS: Final = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.tencentyun.com",
    }
)
"""Names under which clouds offer their instances' credentials."""

METADATA_ADDRESSES: Final = frozenset(
    {
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "169.254.169.254",  # nearly everybody
        "192.0.0.192",  # Oracle
        "fd00:42::42",  # Scaleway
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
    }
)
"""Addresses under which clouds offer them."""

_NEVER: Final[Sequence[tuple[str, str, Sequence[str]]]] = (
    ("link_local_address", "link-local", ("169.254.0.0/16", "fe80::/10")),
    ("unspecified_address", "unspecified", ("0.0.0.0/8", "::/128")),
    ("multicast_address", "multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "reserved_address",
        "reserved",
        (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
        ),
    ),
)
"""Networks that are no source of images. Source: IANA's special-purpose address registries."""

_WHEN_NAMED: Final[Sequence[tuple[str, str, Sequence[str]]]] = (
    ("loopback_address", "a loopback", ("127.0.0.0/8", "::1/128")),
    (
        "private_address",
        "a private",
        ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    ),
)
"""Networks that only a host named by the operator may lead to."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NEVER_NETWORKS: Final = tuple(
    (rule, kind, ip_network(network)) for rule, kind, networks in _NEVER for network in networks
)
_NAMED_NETWORKS: Final = tuple(
    (rule, kind, ip_network(network)) for rule, kind, networks in _WHEN_NAMED for network in networks
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_COMPATIBLE: Final = IPv6Network("::/96")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMBER_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL_ESCAPE: Final = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_SHOWN_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^\[\]:@%\\]*)(?::[0-9]*)?")
_SHOWN_LENGTH: Final = 300
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
_QUERY_SAFE: Final = _PATH_SAFE + "?[]"

HostEncoder = Callable[[str], str]
"""Turns a host name into its ASCII form; raises ValueError for a name that has none."""


@dataclass(frozen=True, slots=True)
class UriRules:
    """What the operator accepts.

    Attributes:
        allowed_schemes, disallowed_schemes: lower case.
        allowed_hosts, disallowed_hosts: names and addresses as `canonical_host` returns them.
        allowed_networks, disallowed_networks: where the addresses may or must not lie.
        allowed_ports, disallowed_ports: 1 to 65535.
        allow_https_to_http: follow redirects that leave TLS.
        max_length: longest URI, in characters.
        max_redirects: redirects followed for one download.
    """

    allowed_schemes: tuple[str, ...] = ("http", "https")
    disallowed_schemes: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    disallowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    disallowed_networks: tuple[Network, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    disallowed_ports: tuple[int, ...] = ()
    allow_https_to_http: bool = False
    max_length: int = 4096
    max_redirects: int = 5


@dataclass(frozen=True, slots=True)
class Allowance:
    """One host and port that a single import may use besides what the rules accept.

    It lifts the rules on host, port, networks, and private and loopback addresses for exactly this pair;
    never those on schemes, link-local and metadata addresses.

    Attributes:
        host: as `canonical_host` returns it.
        port: 1 to 65535.
    """

    host: str
    port: int

    def covers(self, uri: SourceUri) -> bool:
        """Whether ``uri`` leads to this host and port."""
        return (self.host, self.port) == (uri.host, uri.effective_port)


@dataclass(frozen=True, slots=True)
class StraightWays:
    """What is reached without the proxy, where there is one.

    Attributes:
        hosts: names and addresses as `canonical_host` returns them.
        domains: names with all that stands below them, without the dot in front.
        networks: where all addresses of a host must lie.
        places: pairs of host and port.
    """

    hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    places: tuple[tuple[str, int], ...] = ()

    def name(self, uri: SourceUri) -> bool:
        """Whether ``uri`` is reached so whatever its addresses are."""
        if uri.host in self.hosts or (uri.host, uri.effective_port) in self.places:
            return True
        return any(uri.host == domain or uri.host.endswith(f".{domain}") for domain in self.domains)

    def cover(self, uri: SourceUri, addresses: Sequence[str]) -> bool:
        """Whether ``uri`` is reached so, with the addresses that its name has."""
        inside = (_lies_in(ip_address(address), self.networks) for address in addresses)
        return self.name(uri) or (bool(addresses) and all(inside))


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A well-formed http or https URI without credentials.

    Attributes:
        scheme: ``http`` or ``https``.
        host: lower-case ASCII name without trailing dot, or canonical address without brackets.
        port: as written; None when the URI names none.
        target: path and query as they go into the request line; may hold secrets.
        display: the URI without query and fragment, for people, logs and errors.
    """

    scheme: str
    host: str
    port: int | None
    target: str = field(repr=False)
    display: str

    @property
    def effective_port(self) -> int:
        """The port to dial."""
        return DEFAULT_PORTS[self.scheme] if self.port is None else self.port

    @property
    def authority(self) -> str:
        """Host and port as a ``Host`` header has them: no default port, brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.effective_port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URI, query included; may hold secrets."""
        return f"{self.scheme}://{self.authority}{self.target}"


# --- for people --------------------------------------------------------------------------------


def display_uri(text: str) -> str:
    """Return a URI as it may be shown: without user info, query and fragment.

    Takes any text and never raises. Where it is not clear which part is which, the doubtful part
    is left out rather than shown.
    """
    clean = text.strip()
    scheme, separator, rest = clean.partition("://")
    if not separator or not _SCHEME.fullmatch(f"{scheme}:"):
        shown = _QUERY_OR_FRAGMENT.split(clean, maxsplit=1)[0]
        return _printable("(not shown)" if "@" in clean else shown)
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    bare = authority.rpartition("@")[2]
    # A password with a raw '/', '?' or '#' ends the authority early: then what stands there is user info.
    doubtful = not _SHOWN_AUTHORITY.fullmatch(bare)
    if doubtful and ("@" in tail or ":" in bare or "\\" in bare):
        return _printable(f"{scheme}://(not shown)")
    path = _QUERY_OR_FRAGMENT.split(tail, maxsplit=1)[0]
    return _printable(f"{scheme}://{bare}{path}")


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: _SHOWN_LENGTH + 1])
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}…"


# --- the text ----------------------------------------------------------------------------------


def ascii_only(host: str) -> str:
    """Return an ASCII host name as it is.

    Raises:
        ValueError: the name holds other characters; an encoder for international names is needed.
    """
    if not host.isascii():
        raise ValueError("international names must be written in their ASCII form (xn--…)")
    return host


def parse_uri(text: str, rules: UriRules, to_ascii: HostEncoder = ascii_only) -> SourceUri:
    """Return the parts of a URI that every reader understands alike.

    Args:
        text: what the caller sent; a fragment is dropped, an unescaped character of the path is escaped.
        rules: decide on length and scheme.
        to_ascii: encoder for international host names.

    Raises:
        UriRefused: the text is no such URI, or its scheme does not pass.
    """
    display = display_uri(text)
    _refuse_bad_characters(text, rules, display)
    scheme, rest = _split_scheme(text, display)
    _judge_scheme(scheme, rules, display)
    if not rest.startswith("//"):
        raise UriRefused(display, "host_missing", f"'//' and a host must follow '{scheme}:'")
    rest = rest[2:]
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    if "@" in authority:
        raise UriRefused(display, "userinfo", "it holds a user name or password; give the address without them")
    host_text, port_text = _split_authority(authority, display)
    try:
        host = canonical_host(host_text, to_ascii)
    except HostUnusable as error:
        raise UriRefused(display, error.rule, error.reason) from error
    port = _port(port_text, display)
    target = _target(tail, display)
    path = target.partition("?")[0]
    shown = SourceUri(scheme, host, port, path, "")
    return SourceUri(scheme, host, port, target, display=_printable(shown.text))


class HostUnusable(ValueError):
    """A text is no host that every reader understands alike.

    Args:
        rule: name of the rule that decided.
        reason: what was found, and what would pass.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason

    def __str__(self) -> str:
        return self.reason


def canonical_host(host: str, to_ascii: HostEncoder = ascii_only) -> str:
    """Return the one spelling of a host: lower-case ASCII without trailing dot, or a canonical address.

    Args:
        host: a name, an IPv4 address, or an IPv6 address with or without brackets.
        to_ascii: encoder for international names.

    Raises:
        HostUnusable: no such host, or one that readers understand differently.
    """
    if not host:
        raise HostUnusable("host_missing", "the host is missing")
    if "%" in host:
        raise HostUnusable("encoded_host", "the host holds a '%'; write it without escapes and scope")
    if host.startswith("[") or ":" in host:
        return _canonical_ipv6(host)
    try:
        name = to_ascii(host).lower()
    except ValueError as error:
        raise HostUnusable("host_invalid", f"the host is no valid name: {error}") from error
    name = name.removesuffix(".")
    labels = name.split(".")
    if _NUMBER_LABEL.fullmatch(labels[-1]):
        return _canonical_ipv4(name)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise HostUnusable(
            "host_invalid",
            "the host is no valid name: letters, digits, hyphens, 1 to 63 characters between dots, 253 in all",
        )
    return name


def _canonical_ipv4(name: str) -> str:
    try:
        return str(IPv4Address(name))
    except ValueError as error:
        raise HostUnusable(
            "ipv4_form",
            "the host looks like an address in decimal, octal, hexadecimal or short form; write four decimal numbers",
        ) from error


def _canonical_ipv6(host: str) -> str:
    try:
        return IPv6Address(host.removeprefix("[").removesuffix("]")).compressed
    except ValueError as error:
        raise HostUnusable("host_invalid", "the host is no valid IPv6 address") from error


def _refuse_bad_characters(text: str, rules: UriRules, display: str) -> None:
    if len(text) > rules.max_length:
        reason = f"it is {len(text)} characters long; at most {rules.max_length} are accepted"
        raise UriRefused(display, "max_length", reason)
    if "\\" in text:
        raise UriRefused(display, "backslash", "it holds a backslash, which readers understand differently")
    if any(char.isspace() or _is_control(char) for char in text):
        raise UriRefused(display, "control_character", "it holds white space or a control character")


def _is_control(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def _split_scheme(text: str, display: str) -> tuple[str, str]:
    match = _SCHEME.match(text)
    if match is None:
        raise UriRefused(display, "scheme_missing", "the scheme is missing; begin with http:// or https://")
    return match[1].lower(), text[match.end() :]


def _split_authority(authority: str, display: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UriRefused(display, "host_invalid", "an IPv6 address must stand in brackets: [2001:db8::1]:80")
        return host + bracket, rest[1:]
    if authority.count(":") > 1:
        raise UriRefused(display, "port_invalid", "it holds more than one port, or an IPv6 address without brackets")
    host, _, port = authority.partition(":")
    return host, port


def _port(text: str, display: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise UriRefused(display, "port_invalid", "the port must be a number from 1 to 65535")
    if int(text) == 0:
        raise UriRefused(display, "port_zero", "port 0 cannot be reached; the port must be from 1 to 65535")
    return int(text)


def _target(tail: str, display: str) -> str:
    path, question, query = tail.partition("#")[0].partition("?")
    if _CONTROL_ESCAPE.search(path):
        raise UriRefused(display, "control_character", "its path holds an escaped control character")
    return (_escaped(path, _PATH_SAFE) or "/") + question + _escaped(query, _QUERY_SAFE)


def _escaped(text: str, safe: str) -> str:
    return quote(_BAD_ESCAPE.sub("%25", text), safe=safe)


# --- the lists ---------------------------------------------------------------------------------


def judge_uri(uri: SourceUri, rules: UriRules, allowance: Allowance | None = None) -> str:
    """Refuse a URI whose scheme, host or port does not pass, and return the rule that let it pass.

    Returns:
        ``allowance``, ``allowed_hosts``, ``allowed_networks`` (still to be held against the addresses),
        ``allowed_ports``, or ``default`` when no list had to decide.

    Raises:
        UriRefused: with the first rule that it does not pass.

    Source: "Validation of a URI" in Glance's documentation of interoperable image import.
    """
    _judge_scheme(uri.scheme, rules, uri.display)
    if uri.host in METADATA_HOSTS:
        reason = f"{uri.host} is a cloud's metadata service, which no rule can allow"
        raise UriRefused(uri.display, "metadata_address", reason)
    if allowance is not None and allowance.covers(uri):
        return "allowance"
    _judge_host(uri, rules)
    _judge_port(uri, rules)
    if rules.allowed_hosts:
        return "allowed_hosts"
    if rules.allowed_networks:
        return "allowed_networks"
    return "allowed_ports" if rules.allowed_ports and uri.port is not None else "default"


def _judge_scheme(scheme: str, rules: UriRules, display: str) -> None:
    if rules.allowed_schemes:
        if scheme not in rules.allowed_schemes:
            reason = f"scheme {scheme} is not accepted; accepted: {', '.join(rules.allowed_schemes)}"
            raise UriRefused(display, "allowed_schemes", reason)
    elif scheme in rules.disallowed_schemes:
        raise UriRefused(display, "disallowed_schemes", f"scheme {scheme} is not accepted")
    if scheme not in DEFAULT_PORTS:
        raise UriRefused(display, "scheme_unsupported", f"scheme {scheme} cannot be downloaded; use http or https")


def _judge_host(uri: SourceUri, rules: UriRules) -> None:
    if rules.allowed_hosts:
        if uri.host not in rules.allowed_hosts:
            # The list itself stays with the operator: it may name hosts that callers need not know.
            reason = f"host {uri.host} is not one of those that this site accepts"
            raise UriRefused(uri.display, "allowed_hosts", reason)
    elif uri.host in rules.disallowed_hosts:
        raise UriRefused(uri.display, "disallowed_hosts", f"host {uri.host} is not accepted by this site")


def _judge_port(uri: SourceUri, rules: UriRules) -> None:
    if uri.port is None:
        return
    if rules.allowed_ports:
        if uri.port not in rules.allowed_ports:
            accepted = ", ".join(str(port) for port in rules.allowed_ports)
            reason = f"port {uri.port} is not accepted; accepted: {accepted}"
            raise UriRefused(uri.display, "allowed_ports", reason)
    elif uri.port in rules.disallowed_ports:
        raise UriRefused(uri.display, "disallowed_ports", f"port {uri.port} is not accepted")


# --- the addresses -----------------------------------------------------------------------------


def judge_address(address: str, uri: SourceUri, rules: UriRules, allowance: Allowance | None = None) -> None:
    """Refuse an address that must not be dialled for a URI.

    Addresses that carry an IPv4 address (mapped, compatible, NAT64, 6to4) are judged as that one too.
    The lists of networks are one more level: an allow list that is set decides alone there, and what
    lies in it may be private or loopback.

    Args:
        address: as a resolver returned it, or the host itself where that is an address.
        uri: what it was resolved for; a host named in ``allowed_hosts`` may be private or loopback.
        rules: the site's rules.
        allowance: the extra host and port of this import.

    Raises:
        UriRefused: with the rule that the address does not pass.
    """
    try:
        parsed = ip_address(address)
    except ValueError as error:
        raise UriRefused(uri.display, "address_invalid", f"{address} is no address") from error
    carried = tuple(_carried(parsed))
    for one in (parsed, *carried):
        _refuse_never(one, uri, is_carrier=one is parsed and bool(carried))
    if allowance is not None and allowance.covers(uri):
        return
    # Packets to a carrier end at what it carries, so that is what an allow list must name.
    _judge_networks(carried or (parsed,), (parsed, *carried), uri, rules)
    if uri.host in rules.allowed_hosts:
        return
    for one in (parsed, *carried):
        _refuse_denied(one, uri, rules)
        if not rules.allowed_networks:
            _refuse_unless_named(one, uri)


def _judge_networks(ends: Sequence[Address], ways: Sequence[Address], uri: SourceUri, rules: UriRules) -> None:
    if rules.allowed_networks:
        for one in ends:
            if not _lies_in(one, rules.allowed_networks):
                # The list itself stays with the operator: it may tell how a network is laid out.
                reason = f"{_where(one, uri)} an address outside of the networks that this site accepts"
                raise UriRefused(uri.display, "allowed_networks", reason)
        return
    for one in ways:
        if _lies_in(one, rules.disallowed_networks):
            reason = f"{_where(one, uri)} an address in a network that this site does not accept"
            raise UriRefused(uri.display, "disallowed_networks", reason)


def both_forms(network: Network) -> tuple[Network, ...]:
    """Return a network of a list, and the IPv4 network that it names where it is one of mapped addresses.

    ``::ffff:10.0.0.0/104`` so means ``10.0.0.0/8`` too, which is what is dialled. All of ``::ffff:0:0/96`` names the
    way of writing and no network: it holds for addresses that are written so.
    """
    if not isinstance(network, IPv6Network) or network == _MAPPED or not network.subnet_of(_MAPPED):
        return (network,)
    first = int(network.network_address) & 0xFFFFFFFF
    return network, IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))


def _lies_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    elif address in _6TO4:
        yield IPv4Address((int(address) >> 80) & 0xFFFFFFFF)


def _refuse_never(address: Address, uri: SourceUri, *, is_carrier: bool) -> None:
    where = _where(address, uri)
    bare = IPv6Address(int(address)) if isinstance(address, IPv6Address) else address  # without scope
    if str(bare) in METADATA_ADDRESSES:
        reason = f"{where} the address of a cloud's metadata service, which no rule can allow"
        raise UriRefused(uri.display, "metadata_address", reason)
    for rule, kind, network in _NEVER_NETWORKS:
        if bare in network:
            raise UriRefused(uri.display, rule, f"{where} a {kind} address, which no rule can allow")
    if isinstance(bare, IPv6Address) and not is_carrier and bare not in _GLOBAL_UNICAST and not _may_be_named(bare):
        raise UriRefused(uri.display, "reserved_address", f"{where} a reserved address, which no rule can allow")


def _may_be_named(address: Address) -> bool:
    return any(address in network for _, _, network in _NAMED_NETWORKS)


def _refuse_denied(address: Address, uri: SourceUri, rules: UriRules) -> None:
    if not rules.allowed_hosts and str(address) in rules.disallowed_hosts:
        reason = f"{_where(address, uri)} an address that is not accepted by this site"
        raise UriRefused(uri.display, "disallowed_hosts", reason)


def _refuse_unless_named(address: Address, uri: SourceUri) -> None:
    for rule, kind, network in _NAMED_NETWORKS:
        if address in network:
            reason = (
                f"{_where(address, uri)} {kind} address;"
                f" only what the operator names in uri.allowed_hosts or uri.allowed_networks may be one"
            )
            raise UriRefused(uri.display, rule, reason)


def _where(address: Address, uri: SourceUri) -> str:
    return f"{address} is" if uri.host == str(address) else f"{uri.host} leads to {address},"


# --- redirects ---------------------------------------------------------------------------------


def join_location(base: SourceUri, location: str) -> str:
    """Return the URI that a ``Location`` header means, still to be parsed and judged.

    Raises:
        UriRefused: the header is empty or holds a character that no URI has.
    """
    if not location or location.startswith("#"):
        raise UriRefused(base.display, "location_missing", "the redirect does not say where to")
    if any(char.isspace() or _is_control(char) for char in location) or "\\" in location:
        raise UriRefused(base.display, "control_character", "the redirect holds a character that no URI has")
    if _SCHEME.match(location):
        return location
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    origin = f"{base.scheme}://{base.authority}"
    path = base.target.partition("?")[0]
    if location.startswith("/"):
        return origin + location
    if location.startswith("?"):
        return origin + path + location
    return origin + urljoin(path, f"./{location}")


def judge_redirect(source: SourceUri, target: SourceUri, rules: UriRules) -> None:
    """Refuse a redirect that leaves TLS, unless the rules allow that.

    Raises:
        UriRefused: it does.
    """
    if source.scheme == "https" and target.scheme == "http" and not rules.allow_https_to_http:
        reason = "it leads from https to http; uri.allow_https_to_http decides"
        raise UriRefused(target.display, "allow_https_to_http", reason)
