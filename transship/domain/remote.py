"""An image in another Glance: its name, how to reach it, and checks of its record before the download."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Self
from uuid import UUID

from transship.domain.errors import BadRequest, RemoteUnusable
from transship.domain.image import RESERVED_PREFIX

INTERFACES: Final = ("public", "internal", "admin")
"""Interfaces of endpoints in a service catalogue."""

BASE_ATTRIBUTES: Final = frozenset(
    {
        *("id", "name", "status", "visibility", "protected", "os_hidden", "owner", "tags", "created_at", "updated_at"),
        *("disk_format", "container_format", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value"),
        *("min_disk", "min_ram", "self", "file", "schema", "stores", "locations", "direct_url"),
    }
)
"""Fields of every image, which are never copied, whatever the prefixes are."""

_LONGEST_NAME: Final = 255
_VERSION: Final = re.compile(r"/v2(\.\d+)?$")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image as named in a glance-download.

    Attributes:
        image_id: canonical UUID.
        region: as the caller wrote it; matched regardless of case.
        interface: one of `INTERFACES`.
    """

    image_id: str
    region: str
    interface: str = "public"

    def named(self) -> dict[str, str]:
        """Return the keys of a request that name it."""
        return {
            "glance_region": self.region,
            "glance_image_id": self.image_id,
            "glance_service_interface": self.interface,
        }


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """How to reach a remote image with the caller's rights. Stored encrypted.

    Attributes:
        image: the remote image.
        endpoint: of the region, from the caller's service catalogue; empty if it has none.
        refusal: why it has none.
        token: the caller's; empty if it is not needed.
    """

    image: RemoteImage
    endpoint: str = ""
    refusal: str = ""
    token: str = field(default="", repr=False)

    def to_text(self) -> str:
        """Serialize it for `from_text`; the text holds the token."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the output of `to_text`."""
        stored = json.loads(text)
        return cls(RemoteImage(**stored.pop("image")), **stored)


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """What is used from a remote image's record.

    Attributes:
        size: bytes.
        digest: name of an algorithm and the digest in lower-case hex; None: the record has none that is known here.
        properties: extra properties to copy.
    """

    size: int
    disk_format: str
    container_format: str
    digest: tuple[str, str] | None
    properties: Mapping[str, str]


def parse_remote(method: Mapping[object, object]) -> RemoteImage:
    """Return the remote image named in the ``method`` of an import request.

    Raises:
        BadRequest: region or image id are missing or invalid.

    Source: Images API v2, "Interoperable image import", glance-download.
    """
    region, image_id = method.get("glance_region"), method.get("glance_image_id")
    interface = method.get("glance_service_interface", INTERFACES[0])
    if not isinstance(region, str) or not region.strip():
        raise BadRequest("'glance_region' is required for the glance-download import method.")
    if not isinstance(image_id, str) or not image_id:
        raise BadRequest("'glance_image_id' is required for the glance-download import method.")
    if interface not in INTERFACES:
        raise BadRequest(f"'glance_service_interface' must be one of: {', '.join(INTERFACES)}.")
    try:
        return RemoteImage(str(UUID(image_id)), region.strip(), str(interface))
    except ValueError as error:
        raise BadRequest(f"Remote image id does not look like a UUID: {image_id[:80]}") from error


def image_url(endpoint: str, image_id: str) -> str:
    """Return the URL of a remote image's record; for its data append ``/file``.

    Args:
        endpoint: with or without the API version at its end.
        image_id: canonical UUID.
    """
    return f"{_VERSION.sub('', endpoint.rstrip('/'))}/v2/images/{image_id}"


def judge_remote(
    image: RemoteImage, body: object, prefixes: Collection[str], algorithms: Collection[str]
) -> RemoteFacts:
    """Check a remote image's record, and return what is used from it.

    Args:
        image: the expected image.
        body: the decoded JSON.
        prefixes: name prefixes of the extra properties to copy.
        algorithms: digests that can be computed here.

    Raises:
        RemoteUnusable: it is not the record of an active image with known size and formats.
    """
    if not isinstance(body, Mapping) or body.get("id") != image.image_id:
        raise RemoteUnusable(
            image.region, image.image_id, "the answer is not its record", "check the region's endpoint"
        )
    status, size = body.get("status"), body.get("size")
    if status != "active":
        raise RemoteUnusable(image.region, image.image_id, f"it is {str(status)[:20]}, not active; it has no data")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RemoteUnusable(image.region, image.image_id, "its record names no size")
    formats = (body.get("disk_format"), body.get("container_format"))
    if not all(isinstance(each, str) and each for each in formats):
        raise RemoteUnusable(image.region, image.image_id, "its record names no formats")
    return RemoteFacts(
        size, str(formats[0]), str(formats[1]), _digest(body, algorithms), _taken_over(body, tuple(prefixes))
    )


def _digest(body: Mapping[object, object], algorithms: Collection[str]) -> tuple[str, str] | None:
    for algorithm, value in ((body.get("os_hash_algo"), body.get("os_hash_value")), ("md5", body.get("checksum"))):
        if isinstance(algorithm, str) and algorithm in algorithms and isinstance(value, str) and value:
            return algorithm, value.lower()
    return None


def _taken_over(body: Mapping[object, object], prefixes: tuple[str, ...]) -> Mapping[str, str]:
    return {
        name: value
        for name, value in body.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and name.startswith(prefixes)
        and not name.startswith(RESERVED_PREFIX)
        and name not in BASE_ATTRIBUTES
        and len(name) <= _LONGEST_NAME
    }
