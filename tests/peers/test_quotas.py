"""Unified limits of a real Keystone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from openstack.exceptions import HttpException

from tests.fakes.asked_imports import AskedImports
from tests.fakes.openstack_peers import OpenStack
from transship.domain.quota import MIB
from transship.identity import unified_limits

pytestmark = [
    pytest.mark.real,
    # openstacksdk warns about its own future whenever it connects.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LIMITS = {"image_size_total": 2, "image_stage_total": 2, "image_count_total": 2, "image_count_uploading": 1}
RAW = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture
def region(cloud: OpenStack, imports: AskedImports, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A region with our image service, whose limits are registered, and an account that may read them."""
    monkeypatch.setattr(unified_limits, "KEPT_S", -1.0)
    name = f"Region-{uuid4().hex[:8]}"
    site = imports.site
    site.set(**{f"auth__{option}": value for option, value in cloud.service_login.items()})
    site.set(api__auth="keystone", quota__unified_limits="true", quota__endpoint_region_name=name)
    imports.api("GET", "/healthcheck")
    cloud.endpoint("image", name, imports.url)
    identity = cloud.connect("admin").identity
    reader = identity.find_role("reader", ignore_missing=False)
    identity.assign_system_role_to_user(identity.find_user("glance"), reader, "all")
    service = next(identity.services(type="image"))
    made = [
        identity.create_registered_limit(service_id=service.id, region_id=name, resource_name=each, default_limit=most)
        for each, most in LIMITS.items()
    ]
    yield name
    for each in made:
        identity.delete_registered_limit(each)


def put(images: Any, image_id: str, kind: str, size: int) -> tuple[int, str]:
    """Send data of a size; return status and text of the answer."""
    headers = {"Content-Type": "application/octet-stream"}
    answer = images.put(f"/images/{image_id}/{kind}", data=b"x" * size, headers=headers)
    return answer.status_code, answer.text


def usage(images: Any) -> dict[str, tuple[int, int]]:
    shown = images.get("/info/usage").json()["usage"]
    return {name: (numbers["usage"], numbers["limit"]) for name, numbers in shown.items()}


def test_limits_of_a_real_keystone_are_enforced_and_shown(cloud: OpenStack, imports: AskedImports, region: str) -> None:
    images = cloud.connect(region=region).image
    first, second = (images.create_image(name, **RAW).id for name in ("first", "second"))
    with pytest.raises(HttpException, match="image_count_total is used up: 2 images count already, of 2") as refused:
        images.create_image("third", **RAW)
    assert refused.value.status_code == 413
    assert put(images, first, "stage", MIB) == (204, "")
    status, message = put(images, second, "stage", 1)
    assert (status, "image_count_uploading is used up: 1 images count already, of 1" in message) == (413, True)
    assert usage(images) == {
        "image_size_total": (0, 2),
        "image_stage_total": (1, 2),
        "image_count_total": (2, 2),
        "image_count_uploading": (1, 1),
    }
    images.import_image(images.get_image(first), method="glance-direct")
    assert imports.carry(first).is_completed()
    assert usage(images)["image_size_total"] == (1, 2)
    status, message = put(images, second, "file", 2 * MIB)
    assert (status, "image_size_total would be exceeded: 1.0 MiB are taken" in message) == (413, True)
    assert put(images, second, "file", MIB) == (204, "")


def test_a_limit_of_one_project_is_seen_by_the_account_with_a_role_on_the_system(
    cloud: OpenStack, imports: AskedImports, region: str
) -> None:
    demo = cloud.connect(region=region)
    identity = cloud.connect("admin").identity
    service = next(identity.services(type="image"))
    limit = identity.create_limit(
        service_id=service.id,
        region_id=region,
        project_id=demo.current_project_id,
        resource_name="image_stage_total",
        resource_limit=5,
    )
    image = demo.image.create_image("wide", **RAW)
    assert put(demo.image, image.id, "stage", 4 * MIB) == (204, "")
    assert usage(demo.image)["image_stage_total"] == (4, 5)
    identity.delete_limit(limit)
