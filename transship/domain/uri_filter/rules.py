"""The site's lists of schemes, hosts and ports, and the rule for redirects."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from transship.domain.errors import UriRefused
from transship.domain.uri_filter.source_uri import DEFAULT_PORTS, SourceUri

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
"""Names under which clouds serve their instances' credentials."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host with one port or all ports.

    Attributes:
        host: as `canonical_host` returns it.
        port: 1 to 65535; None: every port.
    """

    host: str
    port: int | None = None

    def matches(self, uri: SourceUri) -> bool:
        """Whether ``uri`` has this host and port."""
        return uri.host == self.host and self.port in (None, uri.effective_port)


@dataclass(frozen=True, slots=True)
class UriRules:
    """What the operator accepts.

    Attributes:
        allowed_schemes, disallowed_schemes: lower case.
        allowed_hosts, disallowed_hosts: names and addresses as `canonical_host` returns them.
        allowed_networks, disallowed_networks: networks of accepted and refused addresses.
        allowed_ports, disallowed_ports: 1 to 65535.
        internal_hosts, internal_networks: accepted although their addresses are private or loopback; an entry with a
            port also passes ``allowed_ports``. They are not an allow list, and lift no other rule.
        region: the Glance of a configured region. No list applies to it, and it may be private or loopback.
        allow_https_to_http: follow redirects from https to http.
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
    internal_hosts: tuple[HostPort, ...] = ()
    internal_networks: tuple[Network, ...] = ()
    region: HostPort | None = None
    allow_https_to_http: bool = False
    max_length: int = 4096
    max_redirects: int = 5


def judge_uri(uri: SourceUri, rules: UriRules) -> str:
    """Refuse a URI whose scheme, host or port is not accepted; return the rule that accepted it.

    Returns:
        ``remotes`` (the region's address), ``allowed_hosts``, ``allowed_networks`` (the addresses must still be
        checked), ``internal_hosts``, ``allowed_ports``, or ``default`` when no list decided.

    Raises:
        UriRefused: names the first rule that refuses it.

    Source: "Validation of a URI" in Glance's documentation of interoperable image import.
    """
    judge_scheme(uri.scheme, rules, uri.display)
    if uri.host in METADATA_HOSTS:
        reason = f"{uri.host} is a cloud's metadata service, which no rule can allow"
        raise UriRefused(uri.display, "metadata_address", reason)
    if rules.region is not None and rules.region.matches(uri):
        return "remotes"
    _judge_host(uri, rules)
    _judge_port(uri, rules)
    if rules.allowed_hosts:
        return "allowed_hosts"
    if rules.allowed_networks:
        return "allowed_networks"
    if is_internal(uri, rules):
        return "internal_hosts"
    return "allowed_ports" if rules.allowed_ports and uri.port is not None else "default"


def is_internal(uri: SourceUri, rules: UriRules) -> bool:
    """Whether the host of ``uri`` is one that may have private and loopback addresses."""
    return any(entry.matches(uri) for entry in rules.internal_hosts)


def judge_scheme(scheme: str, rules: UriRules, display: str) -> None:
    """Refuse a scheme that is not accepted or not supported.

    Raises:
        UriRefused: names the rule that refuses it.
    """
    if rules.allowed_schemes:
        if scheme not in rules.allowed_schemes:
            remedy = f"accepted: {', '.join(rules.allowed_schemes)}"
            raise UriRefused(display, "allowed_schemes", f"scheme {scheme} is not accepted", remedy)
    elif scheme in rules.disallowed_schemes:
        raise UriRefused(display, "disallowed_schemes", f"scheme {scheme} is not accepted")
    if scheme not in DEFAULT_PORTS:
        raise UriRefused(display, "scheme_unsupported", f"scheme {scheme} cannot be downloaded", "use http or https")


def _judge_host(uri: SourceUri, rules: UriRules) -> None:
    if rules.allowed_hosts:
        if uri.host not in rules.allowed_hosts:
            # Do not show the list: it may name hosts that callers need not know.
            reason = f"host {uri.host} is not one of those that this site accepts"
            raise UriRefused(uri.display, "allowed_hosts", reason)
    elif uri.host in rules.disallowed_hosts:
        raise UriRefused(uri.display, "disallowed_hosts", f"host {uri.host} is not accepted by this site")


def _judge_port(uri: SourceUri, rules: UriRules) -> None:
    if uri.port is None:
        return
    if rules.allowed_ports:
        if uri.port not in rules.allowed_ports and HostPort(uri.host, uri.port) not in rules.internal_hosts:
            remedy = f"accepted: {', '.join(map(str, rules.allowed_ports))}"
            raise UriRefused(uri.display, "allowed_ports", f"port {uri.port} is not accepted", remedy)
    elif uri.port in rules.disallowed_ports:
        raise UriRefused(uri.display, "disallowed_ports", f"port {uri.port} is not accepted")


def judge_redirect(source: SourceUri, target: SourceUri, rules: UriRules) -> None:
    """Refuse a redirect from https to http unless the rules allow it.

    Raises:
        UriRefused: it is not allowed.
    """
    if source.scheme == "https" and target.scheme == "http" and not rules.allow_https_to_http:
        reason, remedy = "it leads from https to http", "uri.allow_https_to_http decides"
        raise UriRefused(target.display, "allow_https_to_http", reason, remedy)
