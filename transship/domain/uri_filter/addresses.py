"""Which addresses may be dialled for a URI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from transship.domain.errors import UriRefused
from transship.domain.uri_filter.rules import Network, UriRules, is_internal
from transship.domain.uri_filter.source_uri import SourceUri

METADATA_ADDRESSES: Final = frozenset(
    {
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "169.254.169.254",  # most clouds
        "192.0.0.192",  # Oracle
        "fd00:42::42",  # Scaleway
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
    }
)
"""Addresses at which clouds serve their instances' credentials."""

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
"""Networks that cannot be sources of images. Source: IANA's special-purpose address registries."""

_WHEN_NAMED: Final[Sequence[tuple[str, str, Sequence[str]]]] = (
    ("loopback_address", "a loopback", ("127.0.0.0/8", "::1/128")),
    (
        "private_address",
        "a private",
        ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    ),
)
"""Networks that only hosts named by the operator may resolve to."""

Address = IPv4Address | IPv6Address
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


def judge_address(address: str, uri: SourceUri, rules: UriRules) -> None:
    """Refuse an address that must not be dialled for a URI.

    An IPv6 address that embeds an IPv4 address (mapped, compatible, NAT64, 6to4) is also judged as that address.
    The network lists are one more level: if the allow list is set, the deny list is ignored, and addresses
    in the allow list may be private or loopback.

    Args:
        address: from a resolver, or the host itself if that is an address.
        uri: the URI that it was resolved for; a host in ``allowed_hosts`` or ``internal_hosts`` may be private or
            loopback.
        rules: the site's rules.

    Raises:
        UriRefused: names the rule that refuses the address.
    """
    try:
        parsed = ip_address(address)
    except ValueError as error:
        raise UriRefused(uri.display, "address_invalid", f"{address} is no address") from error
    carried = tuple(_carried(parsed))
    for one in (parsed, *carried):
        _refuse_never(one, uri, is_carrier=one is parsed and bool(carried))
    if rules.region is not None and rules.region.matches(uri):
        return
    # Packets to such an address end at the embedded one, so an allow list must name that one.
    _judge_networks(carried or (parsed,), (parsed, *carried), uri, rules)
    if uri.host in rules.allowed_hosts:
        return
    for one in (parsed, *carried):
        _refuse_denied(one, uri, rules)
        if not (rules.allowed_networks or is_internal(uri, rules) or lies_in(one, rules.internal_networks)):
            _refuse_unless_named(one, uri)


def _judge_networks(ends: Sequence[Address], ways: Sequence[Address], uri: SourceUri, rules: UriRules) -> None:
    if rules.allowed_networks:
        for one in ends:
            if not lies_in(one, rules.allowed_networks):
                # Do not show the list: it may reveal the layout of a network.
                reason = f"{_where(one, uri)} an address outside of the networks that this site accepts"
                raise UriRefused(uri.display, "allowed_networks", reason)
        return
    for one in ways:
        if lies_in(one, rules.disallowed_networks):
            reason = f"{_where(one, uri)} an address in a network that this site does not accept"
            raise UriRefused(uri.display, "disallowed_networks", reason)


def both_forms(network: Network) -> tuple[Network, ...]:
    """Return a network from a list, and if it consists of mapped addresses, also the IPv4 network that it denotes.

    ``::ffff:10.0.0.0/104`` also means ``10.0.0.0/8``, which is what is dialled. The whole of ``::ffff:0:0/96`` denotes
    the notation and not a network: it applies to addresses written in this way.
    """
    if not isinstance(network, IPv6Network) or network == _MAPPED or not network.subnet_of(_MAPPED):
        return (network,)
    first = int(network.network_address) & 0xFFFFFFFF
    return network, IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))


def lies_in(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    return any(address in network for network in networks)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses embedded in an IPv6 address, at which its packets may end."""
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
            reason = f"{_where(address, uri)} {kind} address, which this site does not reach"
            raise UriRefused(uri.display, rule, reason, "the operator can name it in uri.internal_hosts")


def _where(address: Address, uri: SourceUri) -> str:
    return f"{address} is" if uri.host == str(address) else f"{uri.host} leads to {address},"
