"""The import methods: what is true of each, in one table. A further method is a row here, a flow and a page.

Nobody else asks which method an import has: who needs to know something that depends on it asks the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from transship.domain.image import ImageStatus


class ImportMethod(StrEnum):
    """The ways image data can come in; the names of their flows, too."""

    GLANCE_DIRECT = "glance-direct"
    WEB_DOWNLOAD = "web-download"
    GLANCE_DOWNLOAD = "glance-download"
    COPY_IMAGE = "copy-image"

    @property
    def facts(self) -> MethodFacts:
        """What is true of this method."""
        return METHODS[self]


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """What is true of an import method.

    An import that succeeds leaves its image ``active``.

    Attributes:
        starts_from: status that an image must have.
        without_data: status of an image whose import failed, unless what it was to be made of is still there: then the
            image is again what it was before.
        body_keys: keys of the request's ``method`` besides ``name``.
        uploaded: the data are what a client uploaded to the staging of one host, and nowhere else: the import runs in
            that host's queue, and keeps them until it has succeeded.
        copies: the image has its data and stays as it is; stores that lack it get them.
        by_default: offered where the settings do not say which methods are.
    """

    starts_from: ImageStatus
    without_data: ImageStatus
    body_keys: tuple[str, ...] = ()
    uploaded: bool = False
    copies: bool = False
    by_default: bool = True

    @property
    def by_uri(self) -> bool:
        """Whether the request names a URI."""
        return "uri" in self.body_keys

    @property
    def from_remote(self) -> bool:
        """Whether the request names an image of another Glance."""
        return "glance_image_id" in self.body_keys


METHODS: Final[Mapping[ImportMethod, MethodFacts]] = {
    ImportMethod.GLANCE_DIRECT: MethodFacts(
        starts_from=ImageStatus.UPLOADING,
        without_data=ImageStatus.QUEUED,
        uploaded=True,
    ),
    ImportMethod.WEB_DOWNLOAD: MethodFacts(
        starts_from=ImageStatus.QUEUED,
        without_data=ImageStatus.QUEUED,
        body_keys=("uri",),
    ),
    ImportMethod.GLANCE_DOWNLOAD: MethodFacts(
        starts_from=ImageStatus.QUEUED,
        without_data=ImageStatus.QUEUED,
        body_keys=("glance_region", "glance_image_id", "glance_service_interface"),
        by_default=False,
    ),
    ImportMethod.COPY_IMAGE: MethodFacts(
        starts_from=ImageStatus.ACTIVE,
        without_data=ImageStatus.ACTIVE,
        copies=True,
    ),
}
"""All methods, in the order in which a site lists them."""

UPLOAD_METHOD: Final = next(method for method, facts in METHODS.items() if facts.uploaded)
"""The method that imports what clients uploaded."""

COPY_METHOD: Final = next(method for method, facts in METHODS.items() if facts.copies)
"""The method that gives an image to further stores."""
