"""The import methods and their properties in one table. A new method needs a row here, a flow and a page.

Other code does not compare methods; it looks up whatever depends on the method in this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from transship.domain.image import ImageStatus


class ImportMethod(StrEnum):
    """The import methods; their names are also those of the flows."""

    GLANCE_DIRECT = "glance-direct"
    WEB_DOWNLOAD = "web-download"
    GLANCE_DOWNLOAD = "glance-download"
    COPY_IMAGE = "copy-image"
    LOCATION_IMPORT = "location-import"

    @property
    def facts(self) -> MethodFacts:
        """The properties of this method."""
        return METHODS[self]


IMPORT_TASK_TYPE: Final = "api_image_import"
LOCATION_TASK_TYPE: Final = "location_import"


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """The properties of an import method.

    After a successful import the image is ``active``.

    Attributes:
        starts_from: status that the image must have.
        without_data: status of the image after a failed import; if the source data are still there, the image returns
            to its former status instead.
        body_keys: keys of the request's ``method`` besides ``name``; its flow has parameters of these names.
        form_keys: further parameters of its flow that not all flows have.
        uploaded: whether the data are in one host's staging only, uploaded by a client. The import then runs in that
            host's queue and keeps the data until it succeeds.
        copies: whether the image has its data already, does not change, and is copied to further stores.
        by_default: whether it is offered if the settings do not name methods.
        in_place: whether the data stay where they are, and the image gets their location. It is requested by adding a
            location, so sites do not list it.
    """

    starts_from: ImageStatus
    without_data: ImageStatus
    body_keys: tuple[str, ...] = ()
    form_keys: tuple[str, ...] = ()
    uploaded: bool = False
    copies: bool = False
    by_default: bool = True
    in_place: bool = False

    @property
    def by_uri(self) -> bool:
        """Whether the request names a URI."""
        return "uri" in self.body_keys

    @property
    def makes_image(self) -> bool:
        """Whether a run that is started by hand makes the image that it fills."""
        return self.starts_from is ImageStatus.QUEUED

    @property
    def task_type(self) -> str:
        """The type of its tasks in the Images API."""
        return LOCATION_TASK_TYPE if self.in_place else IMPORT_TASK_TYPE

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
        form_keys=("disk_format", "container_format", "name", "project_id"),
    ),
    ImportMethod.GLANCE_DOWNLOAD: MethodFacts(
        starts_from=ImageStatus.QUEUED,
        without_data=ImageStatus.QUEUED,
        body_keys=("glance_region", "glance_image_id", "glance_service_interface"),
        form_keys=("name", "project_id"),
        by_default=False,
    ),
    ImportMethod.COPY_IMAGE: MethodFacts(
        starts_from=ImageStatus.ACTIVE,
        without_data=ImageStatus.ACTIVE,
        copies=True,
    ),
    ImportMethod.LOCATION_IMPORT: MethodFacts(
        starts_from=ImageStatus.QUEUED,
        without_data=ImageStatus.QUEUED,
        body_keys=("uri", "os_hash_algo", "os_hash_value"),
        by_default=False,
        in_place=True,
    ),
}
"""All methods, in the order in which sites list them."""

OFFERED: Final = tuple(method for method, facts in METHODS.items() if not facts.in_place)
"""The methods that a site may offer."""

LOCATION_METHOD: Final = next(method for method, facts in METHODS.items() if facts.in_place)
"""The method that gives an image the location of its data."""

UPLOAD_METHOD: Final = next(method for method, facts in METHODS.items() if facts.uploaded)
"""The method that imports uploaded data."""

COPY_METHOD: Final = next(method for method, facts in METHODS.items() if facts.copies)
"""The method that copies an image to further stores."""
