"""Attributes that clients may set on an image when creating or patching it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from config.settings import QuotaSettings
from transship.domain.errors import BadRequest, Forbidden
from transship.domain.image import (
    LARGEST_PROPERTIES_BYTES,
    LARGEST_VALUE_BYTES,
    RESERVED_PREFIX,
    Image,
    Visibility,
    properties_bytes,
)
from transship.domain.quota import refuse_over_count

LONGEST_NAME: Final = 255
"""Longest name of an extra property, in characters."""

LINKS: Final = frozenset({"direct_url", "self", "file", "schema", "stores"})
"""Attributes that are generated for each response."""

READ_ONLY: Final = frozenset(
    {
        "created_at",
        "updated_at",
        "status",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "size",
        "virtual_size",
    }
)
"""Attributes that only the service writes."""

RESERVED: Final = frozenset({"location", "deleted", "deleted_at"})
"""Names from earlier versions of the API."""

_SETTERS: Final[Mapping[str, Callable[[Image, Any], Image]]] = {
    "name": lambda image, value: replace(image, name=value),
    "visibility": lambda image, value: replace(image, visibility=Visibility(value)),
    "protected": lambda image, value: replace(image, protected=value),
    "os_hidden": lambda image, value: replace(image, os_hidden=value),
    "disk_format": lambda image, value: replace(image, disk_format=value),
    "container_format": lambda image, value: replace(image, container_format=value),
    # JSON schema accepts 5.0 as an integer.
    "min_disk": lambda image, value: replace(image, min_disk=int(value)),
    "min_ram": lambda image, value: replace(image, min_ram=int(value)),
    "owner": lambda image, value: replace(image, owner=value or ""),
    "tags": lambda image, value: replace(image, tags=frozenset(value)),
}

WRITABLE: Final = frozenset(_SETTERS)
"""Attributes of every image that clients may set."""


def with_attribute(image: Image, name: str, value: object) -> Image:
    """Return the image with one of its `WRITABLE` attributes set.

    Args:
        value: valid under the site's image schema.
    """
    return _SETTERS[name](image, value)


def refuse_property(name: str, value: str) -> None:
    """Refuse an extra property whose name or value cannot be stored.

    Raises:
        BadRequest: the name is empty or too long, or the value is too long.
    """
    if not name or len(name) > LONGEST_NAME:
        raise BadRequest(f"The name of a property has 1 to {LONGEST_NAME} characters: '{name[:40]}'")
    size_bytes = len(value.encode())
    if size_bytes > LARGEST_VALUE_BYTES:
        remedy = f"at most {LARGEST_VALUE_BYTES} are kept"
        raise BadRequest(f"The value of property '{name}' has {size_bytes} bytes", remedy)


def refuse_reserved(name: str) -> None:
    """Refuse a name reserved for the service.

    Raises:
        Forbidden: it is reserved.
    """
    refuse_protected(name, permitted=name not in RESERVED and not name.startswith(RESERVED_PREFIX))


def refuse_protected(name: str, *, permitted: bool) -> None:
    """Refuse what is not permitted with a property, in the same words as for reserved names.

    Raises:
        Forbidden: it is not permitted.
    """
    if not permitted:
        raise Forbidden(f"Attribute '{name}' is reserved.")


def refuse_read_only(name: str) -> None:
    """Refuse an attribute that only the service writes.

    Raises:
        Forbidden: it is read-only.
    """
    if name in READ_ONLY or name in LINKS:
        raise Forbidden(f"Attribute '{name}' is read-only.")


def refuse_over_quota(before: Image | None, after: Image, quota: QuotaSettings) -> None:
    """Refuse more or larger properties, or more tags, than allowed; removing some is always allowed.

    Args:
        before: the image before the change; None for a new one.

    Raises:
        QuotaExceeded: names the quota and its limit.
    """
    bytes_before = 0 if before is None else properties_bytes(before.properties)
    bytes_after = properties_bytes(after.properties)
    refuse_over_count("bytes of image properties", LARGEST_PROPERTIES_BYTES, bytes_after, bytes_before)
    properties_before = 0 if before is None else len(before.properties)
    tags_before = 0 if before is None else len(before.tags)
    refuse_over_count("image properties", quota.image_property_quota, len(after.properties), properties_before)
    refuse_over_count("image tags", quota.image_tag_quota, len(after.tags), tags_before)
