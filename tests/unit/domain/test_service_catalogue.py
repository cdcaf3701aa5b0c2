"""Finding a service in a caller's catalogue."""

from __future__ import annotations

import pytest

from transship.domain.errors import EndpointUnknown
from transship.domain.service_catalogue import ServiceCatalogue, ServiceEndpoint, parse_catalogue

CATALOGUE = ServiceCatalogue(
    (
        ServiceEndpoint("identity", "RegionOne", "public", "http://keystone.test"),
        ServiceEndpoint("image", "RegionOne", "public", "http://one.test:9292/"),
        ServiceEndpoint("image", "RegionTwo", "internal", "http://two.internal.test/image"),
        ServiceEndpoint("image", "RegionTwo", "public", "http://two.test/image"),
    )
)


@pytest.mark.parametrize(
    ("region", "interface", "url"),
    [
        ("RegionOne", "public", "http://one.test:9292"),
        ("REGIONTWO", "internal", "http://two.internal.test/image"),
        ("regiontwo", "public", "http://two.test/image"),
    ],
)
def test_a_region_is_found_in_any_case_and_by_its_interface(region: str, interface: str, url: str) -> None:
    assert CATALOGUE.find("image", region, interface) == url


@pytest.mark.parametrize(
    ("region", "interface", "told"),
    [
        ("RegionThree", "public", "no service of type image in region RegionThree; its regions: RegionOne, RegionTwo"),
        (
            "RegionOne",
            "admin",
            "region RegionOne has no admin endpoint of a service of type image; its interfaces: public",
        ),
    ],
)
def test_what_is_not_there_is_said_with_what_is(region: str, interface: str, told: str) -> None:
    with pytest.raises(EndpointUnknown) as unknown:
        CATALOGUE.find("image", region, interface)
    assert told in str(unknown.value)


def test_an_empty_catalogue_says_so() -> None:
    with pytest.raises(EndpointUnknown, match="regions: none"):
        ServiceCatalogue().find("image", "RegionOne", "public")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [None, {"type": "image"}, {"type": "image", "endpoints": [None, {}, {"url": "http://x"}]}],
        [{"type": 7, "endpoints": [{"region": "R", "interface": "public", "url": "http://x"}]}],
    ],
)
def test_entries_of_another_form_are_left_out(body: object) -> None:
    assert parse_catalogue(body) == ServiceCatalogue()


def test_a_catalogue_of_keystone_is_read() -> None:
    endpoint = {"id": "1", "interface": "public", "region": "old", "region_id": "RegionTwo", "url": "http://two.test"}
    services = [{"type": "image", "name": "glance", "endpoints": [endpoint]}]
    assert parse_catalogue(services).endpoints == (ServiceEndpoint("image", "RegionTwo", "public", "http://two.test"),)
