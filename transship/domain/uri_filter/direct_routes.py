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
    """What is reached without the proxy, if there is one.

    Attributes:
        hosts: names and addresses as `canonical_host` returns them.
        domains: names including all their subdomains, without a leading dot.
        networks: a host matches if all its addresses are in these networks.
        places: single hosts and ports.
    """

    hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    places: tuple[HostPort, ...] = ()

    def name(self, uri: SourceUri) -> bool:
        """Whether ``uri`` is reached directly, whatever its addresses are."""
        if uri.host in self.hosts or any(place.matches(uri) for place in self.places):
            return True
        return any(uri.host == domain or uri.host.endswith(f".{domain}") for domain in self.domains)

    def cover(self, uri: SourceUri, addresses: Sequence[str]) -> bool:
        """Whether ``uri`` is reached directly, given the addresses of its host."""
        inside = (lies_in(ip_address(address), self.networks) for address in addresses)
        return self.name(uri) or (bool(addresses) and all(inside))
