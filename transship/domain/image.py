"""The image record: what it holds, and which states may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final


class ImageStatus(StrEnum):
    """States of an image, as the Images API v2 names them."""

    QUEUED = "queued"
    SAVING = "saving"
    UPLOADING = "uploading"
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    KILLED = "killed"
    PENDING_DELETE = "pending_delete"
    DELETED = "deleted"


class Visibility(StrEnum):
    """Who sees an image."""

    PUBLIC = "public"
    COMMUNITY = "community"
    SHARED = "shared"
    PRIVATE = "private"


DISK_FORMATS: Final = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS: Final = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
"""Formats of a Glance with default configuration. Source: Glance ``[image_format]`` options."""

RESERVED_PREFIX: Final = "os_glance"
"""Names beginning so belong to the service; clients, plugins and remote images may not set them."""

LARGEST_VALUE_BYTES: Final = 65_535
"""Longest value of an extra property, as UTF-8. Source: the TEXT column of Glance's ``image_properties`` on MySQL."""

LARGEST_PROPERTIES_BYTES: Final = 128 * 1024
"""Most bytes of all extra properties of one image, names included: a page of the image list holds up to a thousand."""


def properties_bytes(properties: Mapping[str, str]) -> int:
    """Return how many bytes names and values of extra properties take as UTF-8."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in properties.items())


@dataclass(frozen=True, slots=True)
class Location:
    """One place where a store keeps the image's data.

    Attributes:
        store: store id.
        url: Glance's location URL, without credentials.
        size: bytes stored.
    """

    store: str
    url: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image record as the catalogue holds it.

    Attributes:
        id: canonical UUID.
        size: bytes of the stored data, None until known.
        virtual_size: bytes that a guest sees, None until known.
        checksum: md5 of the stored data, lower-case hex, 32 characters.
        os_hash_value: digest of the stored data by ``os_hash_algo``, lower-case hex.
        min_disk: GB; min_ram: MB.
        owner: project id; empty when made without identity service.
        properties: extra properties, text to text, without those of the service.
        locations: active locations, best store first.
        import_task: id of the task that holds the import lock.
        importing_to: store ids that the running import has still to write, sorted; None before any import.
        failed_import: store ids that the last import could not write, sorted; None before any import.
        import_message: why the last import failed, None when it did not.
        version: grows with each write by a client; for compare-and-set.
        created_at, updated_at: UTC.
    """

    id: str
    status: ImageStatus
    created_at: datetime
    updated_at: datetime
    name: str | None = None
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    owner: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    locations: tuple[Location, ...] = ()
    import_task: str | None = None
    importing_to: tuple[str, ...] | None = None
    failed_import: tuple[str, ...] | None = None
    import_message: str | None = None
    version: int = 1
