"""What is reached without the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from transship.domain.uri_filter.addresses import lies_in
from transship.domain.uri_filter.rules import HostPort, Network
from transship.domain.uri_filter.source_uri import SourceUri


@dataclass(frozen=True, slots=True)
class DirectRoutes:
    """What is reached without the proxy, where there is one.

    Attributes:
        hosts: names and addresses as `canonical_host` returns them.
        domains: names with all that stands below them, without the dot in front.
        networks: where all addresses of a host must lie.
        places: single hosts and ports.
    """

    hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    places: tuple[HostPort, ...] = ()

    def name(self, uri: SourceUri) -> bool:
        """Whether ``uri`` is reached so whatever its addresses are."""
        if uri.host in self.hosts or any(place.matches(uri) for place in self.places):
            return True
        return any(uri.host == domain or uri.host.endswith(f".{domain}") for domain in self.domains)

    def cover(self, uri: SourceUri, addresses: Sequence[str]) -> bool:
        """Whether ``uri`` is reached so, with the addresses that its name has."""
        inside = (lies_in(ip_address(address), self.networks) for address in addresses)
        return self.name(uri) or (bool(addresses) and all(inside))
