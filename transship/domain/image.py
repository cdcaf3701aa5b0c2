"""The image record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final


class ImageStatus(StrEnum):
    """States of an image, named as in the Images API v2."""

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
    """Who can see an image."""

    PUBLIC = "public"
    COMMUNITY = "community"
    SHARED = "shared"
    PRIVATE = "private"


class MemberStatus(StrEnum):
    """What a project that an image is shared with answered: an accepted image is in its list."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


DISK_FORMATS: Final = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS: Final = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
"""Glance's default formats. Source: Glance ``[image_format]`` options."""

RESERVED_PREFIX: Final = "os_glance"
"""Prefix of names reserved for the service; clients, plugins and remote images may not set them."""

LARGEST_VALUE_BYTES: Final = 65_535
"""Longest value of an extra property in UTF-8. Source: the TEXT column of Glance's ``image_properties`` on MySQL."""

LARGEST_PROPERTIES_BYTES: Final = 128 * 1024
"""Most bytes of an image's extra properties, names included; a page of the image list has up to a thousand images."""


def properties_bytes(properties: Mapping[str, str]) -> int:
    """Return the size of names and values of extra properties in UTF-8 bytes."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in properties.items())


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an image's data in one store.

    Attributes:
        store: store id.
        url: Glance's location URL, without credentials.
        size: bytes stored.
        damage: why the data there are not the image's, as the last verification found; None: it found nothing.
    """

    store: str
    url: str
    size: int
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A project that an image is shared with.

    Attributes:
        project: id of the project.
        created_at, updated_at: UTC.
    """

    image_id: str
    project: str
    status: MemberStatus
    created_at: datetime
    updated_at: datetime


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
        owner: project id; empty when created without an identity service.
        properties: extra properties, text to text, without those of the service.
        members: ids of the projects that the image is shared with, whether they accepted it or not.
        locations: active locations, best store first.
        import_task: id of the task that holds the import lock.
        importing_to: store ids that the running import has yet to write, sorted; None before any import.
        failed_import: store ids that the last import could not write, sorted; None before any import.
        import_message: why the last import failed; None when it did not.
        version: increased by each client's change; for compare-and-set.
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
    members: frozenset[str] = frozenset()
    locations: tuple[Location, ...] = ()
    import_task: str | None = None
    importing_to: tuple[str, ...] | None = None
    failed_import: tuple[str, ...] | None = None
    import_message: str | None = None
    version: int = 1

    @property
    def has_data(self) -> bool:
        """Whether the image has its data, though maybe not everybody may read them."""
        return self.status in (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED)
