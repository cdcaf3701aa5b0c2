"""A caller's service catalogue: the addresses of a cloud's services, from its Keystone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transship.domain.errors import EndpointUnknown, InterfaceUnknown


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """One address of one service.

    Attributes:
        service: type of the service, e.g. ``image``.
        interface: ``public``, ``internal`` or ``admin``.
    """

    service: str
    region: str
    interface: str
    url: str


@dataclass(frozen=True, slots=True)
class ServiceCatalogue:
    """All addresses in the caller's token."""

    endpoints: tuple[ServiceEndpoint, ...] = ()

    def find(self, service: str, region: str, interface: str) -> str:
        """Return the URL of a service in a region, without a trailing slash.

        Args:
            service: its type.
            region: matched regardless of case.
            interface: ``public``, ``internal`` or ``admin``.

        Raises:
            EndpointUnknown: the catalogue does not have the service in the region.
            InterfaceUnknown: the service does not have the interface in the region.
        """
        offered = [each for each in self.endpoints if each.service == service]
        here = [each for each in offered if each.region.casefold() == region.casefold()]
        for each in here:
            if each.interface == interface:
                return each.url.rstrip("/")
        regions = tuple(sorted({each.region for each in offered}))
        if here:
            interfaces = tuple(sorted({each.interface for each in here}))
            raise InterfaceUnknown(service, region, regions, interface, interfaces)
        raise EndpointUnknown(service, region, regions)


def parse_catalogue(services: object) -> ServiceCatalogue:
    """Return the catalogue in a token; malformed entries are left out.

    Source: Identity API v3, "Validate and show information for token".
    """
    found: list[ServiceEndpoint] = []
    for service in services if isinstance(services, list) else []:
        endpoints = service.get("endpoints") if isinstance(service, Mapping) else None
        for endpoint in endpoints if isinstance(endpoints, list) else []:
            if not isinstance(endpoint, Mapping):
                continue
            region = endpoint.get("region_id") or endpoint.get("region")
            texts = (service.get("type"), region, endpoint.get("interface"), endpoint.get("url"))
            if all(isinstance(text, str) and text for text in texts):
                found.append(ServiceEndpoint(*(str(text) for text in texts)))
    return ServiceCatalogue(tuple(found))
