"""The URI gate: resolves a URI's host and applies the rules of `transship.domain.uri_filter` to its addresses.

A name is resolved once. The download dials only the judged addresses and never resolves the name again, which defeats
DNS rebinding.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

import idna
import structlog

from config.settings import DownloadSettings, RemoteSettings, Settings, UriSettings
from transship.domain.errors import ConfigurationRefused, NamesUnanswered, UriRefused, with_remedy
from transship.domain.uri_filter import (
    DEFAULT_PORTS,
    DirectRoutes,
    HostPort,
    HostUnusable,
    Network,
    SourceUri,
    UriRules,
    both_forms,
    canonical_host,
    display_uri,
    join_location,
    judge_address,
    judge_redirect,
    judge_uri,
    parse_uri,
)

log = structlog.get_logger(__name__)

NOT_RESOLVABLE: Final = "not_resolvable"
"""The host name has no address. It may get one, so the check may succeed later."""

NAMES_UNANSWERED: Final = "names_unanswered"
"""The host name could not be resolved; the check may succeed later."""

_NO_ADDRESS: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY})
"""Resolver errors for a name without an address. All other errors mean that the resolver could not find out."""

_LONGEST_HOST: Final = 254  # RFC 1035's 253 and the trailing dot


class ResolverFailed(Exception):
    """The resolver could not find out whether a name has an address, e.g. because no name server answers."""


class Resolver(Protocol):
    """Turns a host name into addresses."""

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses of ``host`` in the order to try them; empty when it has none.

        Raises:
            ResolverFailed: the resolver could not find out.
        """


class SystemResolver:
    """The resolver of this machine: ``/etc/hosts``, DNS and whatever else is configured."""

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Return the addresses of ``host`` in the system's order; empty when it has none.

        Raises:
            ResolverFailed: the resolver could not find out.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except UnicodeError as error:
            log.info("name not resolved", host=host, reason=str(error))
            return ()
        except OSError as error:
            log.info("name not resolved", host=host, reason=str(error))
            if isinstance(error, socket.gaierror) and error.errno in _NO_ADDRESS:
                return ()
            raise ResolverFailed(str(error)) from error
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Admitted:
    """A URI that may be downloaded.

    Attributes:
        uri: its parts.
        addresses: the only addresses to dial, in this order; empty only if a proxy resolves the host.
        rule: the rule that accepted it, as `judge_uri` names it.
        proxied: whether it is reached through the proxy.
    """

    uri: SourceUri
    addresses: tuple[str, ...]
    rule: str
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's decision about a URI, for display.

    Attributes:
        accepted: whether images may be imported from it now.
        rule: the deciding rule, e.g. ``allowed_ports``; ``default`` when it was accepted and no list decided.
        reason: what the rule found, and what is accepted.
        uri: for display.
        addresses: what would be dialled; empty when refused, or when only the proxy resolves the host.
        undecided: not accepted only because the host could not be resolved now.
    """

    accepted: bool
    rule: str
    reason: str
    uri: str
    addresses: tuple[str, ...]
    undecided: bool = False

    @classmethod
    def of_refusal(cls, refused: UriRefused) -> Self:
        """Return the verdict for a refusal."""
        undecided = isinstance(refused, NamesUnanswered)
        return cls(False, refused.rule, with_remedy(refused.reason, refused.remedy), refused.uri, (), undecided)


def host_to_ascii(host: str) -> str:
    """Return the ASCII form of a host name according to IDNA 2008 with the mappings of UTS 46.

    ASCII labels are kept, including those with underscores, which IDNA does not allow. Characters that the mapping
    would drop (zero-width ones, soft hyphens, variation selectors) are refused because they are invisible.

    Raises:
        ValueError: a label is not valid. The text repeats no part of the host, which may hold a misplaced password.
    """
    if len(host) > _LONGEST_HOST:
        raise ValueError(f"{len(host)} characters; at most {_LONGEST_HOST} are possible")
    try:
        if not all(_mapped(char) for char in host):
            raise ValueError("it holds characters that cannot be seen")
        return ".".join(_label_to_ascii(label.lower()) for label in _mapped(host).split("."))
    except idna.IDNAError as error:
        raise ValueError("it holds characters that no international name has") from error


def _mapped(text: str) -> str:
    return text if text.isascii() else idna.uts46_remap(text, std3_rules=False, transitional=False)


def _label_to_ascii(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        return label
    return idna.alabel(label).decode("ascii")


def rules_from(settings: UriSettings, region: RemoteSettings | None = None) -> UriRules:
    """Return the rules from the settings, with every host in its canonical spelling.

    Args:
        region: the configured region whose Glance may be reached regardless of the lists.

    Raises:
        ConfigurationRefused: an entry of a list is invalid.
    """
    internal_networks = [entry for entry in settings.internal_hosts if "/" in entry]
    return UriRules(
        allowed_schemes=tuple(scheme.strip().lower() for scheme in settings.allowed_schemes),
        disallowed_schemes=tuple(scheme.strip().lower() for scheme in settings.disallowed_schemes),
        allowed_hosts=_hosts("uri.allowed_hosts", settings.allowed_hosts),
        disallowed_hosts=_hosts("uri.disallowed_hosts", settings.disallowed_hosts),
        allowed_networks=_networks(settings.allowed_networks),
        disallowed_networks=_networks(settings.disallowed_networks),
        allowed_ports=settings.allowed_ports,
        disallowed_ports=settings.disallowed_ports,
        internal_hosts=tuple(_internal_host(entry) for entry in settings.internal_hosts if "/" not in entry),
        internal_networks=_networks(internal_networks),
        region=None if region is None else _place_of(region),
        allow_https_to_http=settings.allow_https_to_http,
        max_length=settings.max_length,
        max_redirects=settings.max_redirects,
    )


def gate_from(settings: Settings, region: RemoteSettings | None = None) -> UriGate:
    """Return the gate of a site, the same for the service, its imports and ``transship check-uri``.

    Args:
        region: the configured region that is the source; the operator named its address, so no list applies to it.

    Raises:
        ConfigurationRefused: an entry of a list is invalid.
    """
    proxied = bool(settings.download.proxy_url.get_secret_value())
    direct = direct_routes_from(settings.download, settings.remotes.values())
    return UriGate(rules_from(settings.uri, region), proxied=proxied, direct=direct)


def direct_routes_from(settings: DownloadSettings, remotes: Iterable[RemoteSettings] = ()) -> DirectRoutes:
    """Return what is reached without the proxy: hosts and networks in the settings, and the configured regions.

    Raises:
        ConfigurationRefused: an entry is not a host, domain or network.
    """
    option = "download.no_proxy"
    entries = [entry.strip() for entry in settings.no_proxy]
    networks = [entry for entry in entries if _is_network(entry)]
    domains = [entry for entry in entries if entry.startswith(".")]
    hosts = [entry for entry in entries if entry not in networks and entry not in domains]
    return DirectRoutes(
        hosts=_hosts(option, hosts),
        domains=_hosts(option, [domain.removeprefix(".") for domain in domains]),
        networks=_networks(networks),
        places=tuple(_place_of(remote) for remote in remotes if not remote.through_proxy),
    )


def _place_of(remote: RemoteSettings) -> HostPort:
    parts = urlsplit(remote.url)
    host = canonical_host(parts.hostname or "", host_to_ascii)
    return HostPort(host, parts.port or DEFAULT_PORTS[parts.scheme])


def _internal_host(entry: str) -> HostPort:
    """Parse ``host`` or ``host:port``; an IPv6 address with a port must be in brackets."""
    option = "uri.internal_hosts"
    host, _, port = entry.rpartition(":")
    if not host or (":" in host and not host.endswith("]")):
        return HostPort(_configured_host(option, entry))
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise ConfigurationRefused("settings", option, f"{entry!r}: the port must be a number from 1 to 65535")
    return HostPort(_configured_host(option, host), int(port))


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _networks(networks: Sequence[str]) -> tuple[Network, ...]:
    return tuple(form for network in networks for form in both_forms(ip_network(network)))


def _hosts(option: str, hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(_configured_host(option, host.strip()) for host in hosts)


def _configured_host(option: str, host: str) -> str:
    try:
        return canonical_host(host, host_to_ascii)
    except HostUnusable as error:
        raise ConfigurationRefused("settings", option, f"{host!r}: {error.reason}", error.remedy) from error


class UriGate:
    """Decides which URIs may be downloaded, and from which addresses.

    Args:
        rules: the site's.
        resolver: None: this machine's.
        proxied: downloads go through a proxy, which resolves the host itself, so no address can be pinned. Addresses
            that this machine finds are judged. A name that only the proxy can resolve is accepted unless a list of
            allowed networks requires its address.
        direct: what is reached without the proxy and judged as if there were none.
    """

    def __init__(
        self,
        rules: UriRules,
        resolver: Resolver | None = None,
        *,
        proxied: bool = False,
        direct: DirectRoutes | None = None,
    ) -> None:
        self.rules = rules
        self._proxied = proxied
        self._direct = DirectRoutes() if direct is None else direct
        self._resolver: Resolver = SystemResolver() if resolver is None else resolver

    def admit(self, text: str) -> Admitted:
        """Judge a URI and its host's current addresses; asks the resolver once.

        Refused addresses are left out as long as one is accepted.

        Args:
            text: the URI as the caller sent it; may hold secrets, which no error repeats.

        Raises:
            UriRefused: it is refused; ``not_resolvable`` when its name has no address.
            NamesUnanswered: its name could not be resolved now.
        """
        return self._admit(parse_uri(text, self.rules, host_to_ascii))

    def name_to_resolve(self, text: str) -> str:
        """Judge everything about a URI that needs no resolver.

        Returns:
            The name that `admit` will resolve; empty if none.

        Raises:
            UriRefused: as `admit`.
        """
        uri = parse_uri(text, self.rules, host_to_ascii)
        judge_uri(uri, self.rules)
        return "" if _is_address(uri.host) else uri.host

    def admit_redirect(self, source: SourceUri, location: str) -> Admitted:
        """Judge the target of a redirect from ``source`` as strictly as a caller's own URI.

        Raises:
            UriRefused: as `admit`; also when it leads from https to http and the rules do not allow that.
        """
        uri = parse_uri(join_location(source, location), self.rules, host_to_ascii)
        judge_redirect(source, uri, self.rules)
        return self._admit(uri)

    def explain(self, text: str) -> Verdict:
        """Return the verdict on a URI and the rule that decided; never raises."""
        try:
            admitted = self.admit(text)
        except UriRefused as refused:
            return Verdict.of_refusal(refused)
        uri = admitted.uri
        way = f"it is reached at {', '.join(admitted.addresses)}"
        if admitted.proxied:
            way = "it is reached through the configured proxy, which finds the address by itself"
        reason = f"{uri.host} port {uri.effective_port} is accepted; {way}"
        return Verdict(True, admitted.rule, reason, display_uri(text), admitted.addresses)

    def _admit(self, uri: SourceUri) -> Admitted:
        rule = judge_uri(uri, self.rules)
        found = self._resolved(uri)
        proxied = self._proxied and not self._direct.cover(uri, found)
        return Admitted(uri, self._judged(uri, found, proxied=proxied), rule, proxied)

    def _resolved(self, uri: SourceUri) -> tuple[str, ...]:
        if _is_address(uri.host):
            return (uri.host,)
        without_address = self._proxied and not self._direct.name(uri) and not self.rules.allowed_networks
        try:
            addresses = self._resolver.resolve(uri.host, uri.effective_port)
        except ResolverFailed as silent:
            if without_address:
                return ()
            reason = f"the name servers do not answer for host {uri.host} now"
            raise NamesUnanswered(uri.display, NAMES_UNANSWERED, reason) from silent
        if not addresses and not without_address:
            raise UriRefused(uri.display, NOT_RESOLVABLE, f"host {uri.host} has no address", "check its spelling")
        return addresses

    def _judged(self, uri: SourceUri, addresses: Sequence[str], *, proxied: bool) -> tuple[str, ...]:
        passing: list[str] = []
        refusals: list[UriRefused] = []
        for address in addresses:
            try:
                judge_address(address, uri, self.rules)
            except UriRefused as refused:
                refusals.append(refused)
            else:
                passing.append(_dialled(address))
        # The proxy may dial any of them, so all must be accepted.
        if refusals and (proxied or not passing):
            raise refusals[0]
        for refusal in refusals:
            log.warning("address skipped", uri=uri.display, rule=refusal.rule, reason=refusal.reason)
        return tuple(dict.fromkeys(passing))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _dialled(address: str) -> str:
    """Return the address in the form to dial: IPv4-mapped IPv6 addresses become IPv4 addresses."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
