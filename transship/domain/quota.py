"""Quotas: counts of one image's parts, and what the images of one project may take together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from transship.domain.errors import ImageCountExceeded, QuotaExceeded, StorageExceeded
from transship.domain.image import Image
from transship.domain.methods import MethodFacts

MIB: Final = 1024 * 1024


class Resource(StrEnum):
    """What a project uses, under the names of Glance's limits in Keystone."""

    SIZE = "image_size_total"
    STAGE = "image_stage_total"
    COUNT = "image_count_total"
    UPLOADING = "image_count_uploading"

    @property
    def unit(self) -> int:
        """Units of `Quota` in one unit of Keystone's limit: bytes in a MiB; images are counted."""
        return MIB if self in (Resource.SIZE, Resource.STAGE) else 1


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of a resource that a project may use.

    Attributes:
        name: of the limit, or of the setting that holds it.
        most: bytes or images; negative: no limit, which is not checked.
    """

    name: str
    most: int

    def check(self, resource: Resource, used: int, asked: int) -> None:
        """Refuse a request that would exceed the limit.

        Args:
            used, asked: in the limit's unit; ``asked`` comes on top.

        Raises:
            StorageExceeded, ImageCountExceeded: it would.
        """
        if used + asked <= self.most:
            return
        if resource.unit == MIB:
            raise StorageExceeded(self.name, used, asked, self.most)
        raise ImageCountExceeded(self.name, used, self.most)


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one project, as they were read at the start of a request or import."""

    project: str
    limits: Mapping[Resource, Limit]

    def claim(self, image_id: str, **asked: int) -> Claim:
        """Return a request for resources, which are named in lower case: ``quota.claim(id, size=5)``."""
        return Claim(self, image_id, {Resource[name.upper()]: amount for name, amount in asked.items()})


@dataclass(frozen=True, slots=True)
class Claim:
    """What an image is about to use; all that it uses already is part of it.

    Attributes:
        asked: bytes or images.
    """

    quota: Quota
    image_id: str
    asked: Mapping[Resource, int]


@dataclass(frozen=True, slots=True)
class ImportQuota:
    """The quota of an import's project.

    Attributes:
        method: facts of the import's method.
        image: its record when the import began.
        stores: how many stores the import writes.
    """

    quota: Quota
    method: MethodFacts
    image: Image
    stores: int

    @property
    def at_start(self) -> Claim:
        """What the import uses as far as that is known before its data arrive; staged data count as staged already."""
        size = self.image.size or 0
        if self.method.uploaded and not self.image.has_data:
            return self.final(size)
        return replace(self.arriving(size), asked={**self.arriving(size).asked, Resource.UPLOADING: 1})

    def arriving(self, size: int) -> Claim:
        """What data of a size in bytes use while they arrive in staging."""
        return self.quota.claim(self.image.id, size=size * self._copies, stage=size)

    def final(self, size: int) -> Claim:
        """What data of a size in bytes use in all stores."""
        return self.quota.claim(self.image.id, size=size * self._copies)

    @property
    def _copies(self) -> int:
        return self.stores + (len(self.image.locations) if self.image.has_data else 0)


def refuse_over_count(what: str, limit: int, asked: int, before: int = 0) -> None:
    """Refuse more of an image's parts than the site allows; fewer than before are always allowed.

    Args:
        what: the parts, e.g. ``image tags``.
        limit: most of them; negative: no limit.
        asked: how many there would be.
        before: how many there are.

    Raises:
        QuotaExceeded: names the parts and their limit.
    """
    if 0 <= limit < asked and asked > before:
        raise QuotaExceeded(what, limit, asked)
