"""Requests that the caller must change; the API answers them with 4xx."""

from __future__ import annotations

from collections.abc import Sequence

from transship.domain.errors.base import TransshipError


class RequestRefused(TransshipError):
    """The request cannot be carried out; nothing was changed."""


class Unauthenticated(RequestRefused):
    """The caller is not authenticated.

    Attributes:
        uri: the Keystone whose tokens are accepted.
        reason: what is wrong with the token.
        remedy: what to do; empty where the reason says it.
    """

    uri: str
    reason: str
    remedy: str = ""

    BRIEF = "The request you have made requires authentication: {reason}"


class EndpointUnknown(RequestRefused):
    """A service catalogue does not have a service in the requested region.

    Attributes:
        service: type of the service.
        region: as requested.
        regions: regions of the service in the catalogue.
    """

    service: str
    region: str
    regions: Sequence[str]

    BRIEF = "the service catalogue has no service of type {service} in region {region}"
    REMEDY = "its regions: {regions:list}"


class InterfaceUnknown(EndpointUnknown):
    """A service catalogue has the service in the region, but not the requested endpoint.

    Attributes:
        interface: as requested.
        interfaces: interfaces in the region.
    """

    interface: str
    interfaces: Sequence[str]

    BRIEF = "region {region} has no {interface} endpoint of a service of type {service}"
    REMEDY = "its interfaces: {interfaces:list}"


class BadRequest(RequestRefused):
    """The request is malformed.

    Attributes:
        reason: what is wrong.
        remedy: what is valid; empty if the reason says it, e.g. in Glance's own words.
    """

    reason: str
    remedy: str = ""

    BRIEF = "{reason}"


class UriRefused(RequestRefused):
    """A URI is not accepted as an import source.

    Attributes:
        uri: for display: without user name, password and query.
        rule: name of the rule that decided, e.g. ``allowed_ports``.
        reason: what the rule found.
        remedy: what is accepted; empty if the reason says it.
    """

    uri: str
    rule: str
    reason: str
    remedy: str = ""

    BRIEF = "URI for web-download does not pass filtering: {uri}: {reason} ({rule})"


class NamesUnanswered(UriRefused):
    """The host name of a URI could not be resolved now; the check may succeed later.

    Attributes:
        uri: for display: without user name, password and query.
        rule: always the same; the arguments are those of `UriRefused`.
        reason: what was tried.
    """

    remedy: str = "try again later"

    BRIEF = "URI for web-download cannot be judged now: {uri}: {reason} ({rule})"


class AlreadyInStore(RequestRefused):
    """A copy was requested to a store that holds the image already."""

    store: str

    BRIEF = "Image is already present at store '{store}'"


class AlreadyBeingCopied(RequestRefused):
    """A copy was requested to a store to which the image is being copied."""

    store: str
    task_id: str

    BRIEF = "Image is already being copied to store '{store}' (task {task_id})"
    REMEDY = "wait until that task ends"


class ImageNotFound(RequestRefused):
    """No such image, or none that the caller may see."""

    image_id: str

    BRIEF = "No image found with ID {image_id}"


class TaskNotFound(RequestRefused):
    """No such task, or none that the caller may see."""

    task_id: str

    BRIEF = "No task found with ID {task_id}"


class Conflict(RequestRefused):
    """The image's current state does not allow the request."""


class ImageExists(Conflict):
    """An image with that id exists or existed; ids are never reused."""

    image_id: str

    BRIEF = "Image ID {image_id} already exists!"


class WrongStatus(Conflict):
    """The method requires another image status."""

    image_id: str
    found: str
    required: str
    action: str

    BRIEF = "Image {image_id} is {found}"
    REMEDY = "it needs to be {required} to use '{action}'"


class FormatMissing(Conflict):
    """The image's disk or container format is not set.

    Attributes:
        field: ``disk_format`` or ``container_format``.
    """

    image_id: str
    field: str

    BRIEF = "'{field}' needs to be set before import"


class ImportRunning(Conflict):
    """Another import of this image holds the lock; it is not affected."""

    image_id: str
    task_id: str

    BRIEF = (
        "New operation on image '{image_id}' is not permitted as prior operation is still in progress (task {task_id})"
    )
    REMEDY = "wait until it ends"


class ImageChanged(Conflict):
    """The image changed between reading and writing it."""

    image_id: str

    BRIEF = "Image {image_id} was changed by another request"
    REMEDY = "read it and try again"


class StoreUnknown(Conflict):
    """No store with that id is configured, or the id is reserved."""

    store: str
    known: Sequence[str]

    BRIEF = "Unknown store '{store}'"
    REMEDY = "the stores of this site are: {known:list}"


class StoreReadOnly(Conflict):
    """The store cannot be written, so it cannot be a target."""

    store: str

    BRIEF = "Store '{store}' is read-only and cannot be imported to"
    REMEDY = "name another store"


class NotInStore(RequestRefused):
    """The store does not hold the image."""

    image_id: str
    store: str

    BRIEF = "Image {image_id} is not stored in store '{store}'"


class PropertyConflict(Conflict):
    """A property that should exist does not, or vice versa.

    Attributes:
        name: of the property.
        reason: the rest of a sentence that begins with the name.
    """

    name: str
    reason: str

    BRIEF = "Property {name} {reason}"


class Forbidden(RequestRefused):
    """The caller may not do this."""

    reason: str
    remedy: str = ""

    BRIEF = "{reason}"


class QuotaExceeded(RequestRefused):
    """A count or size limit of the site would be exceeded."""

    what: str
    limit: int
    asked: int

    BRIEF = "{what}: {asked} asked for, at most {limit} allowed"


class TagNotFound(RequestRefused):
    """The image does not have the tag."""

    image_id: str
    tag: str

    BRIEF = "Image {image_id} has no tag '{tag}'"


class MemberNotFound(RequestRefused):
    """The image is not shared with the project, as far as the caller may know."""

    image_id: str
    project: str

    BRIEF = "{project} not found in the member list of the image {image_id}."


class MemberExists(Conflict):
    """The image is shared with the project already."""

    image_id: str
    project: str

    BRIEF = "Member {project} is duplicated for image {image_id}"


class BodyTooLarge(RequestRefused):
    """A request body is longer than the API reads."""

    limit_bytes: int

    BRIEF = "The request body is longer than the {limit_bytes:size} that are accepted"


class RequestIdTooLong(RequestRefused):
    """The caller's own request id is longer than the site accepts."""

    limit: int

    BRIEF = "x-openstack-request-id is too long, max size {limit}"


class MediaTypeRefused(RequestRefused):
    """A request body has a media type that the resource does not accept."""

    found: str
    accepted: Sequence[str]

    BRIEF = "Content type '{found}' is not accepted"
    REMEDY = "send one of: {accepted:list}"


class MethodNotOffered(RequestRefused):
    """The request needs an import method that this site does not offer."""

    method: str

    BRIEF = "'{method}' method is not available at this site."


class DataTypeRefused(RequestRefused):
    """Image data were sent with a content type other than plain bytes."""

    found: str
    accepted: str

    BRIEF = "Content type '{found}' is not accepted for image data"
    REMEDY = "send {accepted}"


class StagedAlready(Conflict):
    """The image already has staged data, which are kept."""

    image_id: str

    BRIEF = "Image {image_id} already has staged data"
    REMEDY = "import them, or delete the image"


class UploadRunning(Conflict):
    """Data of the image are being uploaded; that upload is not affected."""

    image_id: str

    BRIEF = "Data of image {image_id} are being uploaded by another request"
    REMEDY = "wait until it ends"


class UploadIncomplete(Conflict):
    """The staged data of the image are incomplete: an upload is running, or was cut off."""

    image_id: str

    BRIEF = "The staged data of image {image_id} are not complete"
    REMEDY = "wait until the upload ends, or stage them again if it was cut off"


class UploadTakenOver(Conflict):
    """Another request took the image during this upload; what this one uploaded is gone."""

    image_id: str

    BRIEF = "Image {image_id} was taken over by another request while its data were uploaded"
    REMEDY = "read the image, and upload again if its data are still missing"


class UploadTooSlow(RequestRefused):
    """The caller sent its data too slowly, or none for too long.

    Attributes:
        rate: bytes a second over the window.
        minimum: required bytes a second.
        window_s: seconds over which the rate was measured.
    """

    rate: int
    minimum: int
    window_s: float

    BRIEF = (
        "The data arrived at {rate} bytes/s over {window_s:.0f} s; at least {minimum} are required (section upload of"
        " the settings)"
    )
    REMEDY = "use a faster connection, or ask the operator to lower the limit"


class ImageGone(RequestRefused):
    """The image was deleted while its data were uploaded; they are gone too."""

    image_id: str

    BRIEF = "Image {image_id} was deleted while its data were uploaded"


class HostGone(RequestRefused):
    """The data are in the staging directory of a host whose worker does not run."""

    image_id: str
    host: str

    BRIEF = "Stage host is unavailable: the data of image {image_id} are on host {host}, whose worker does not run"
    REMEDY = "try again when it runs, or stage the data again"


class RangeUnsatisfiable(RequestRefused):
    """The requested bytes are outside of the image data.

    Attributes:
        asked: the header as sent.
        size: bytes of the image data.
    """

    asked: str
    size: int

    BRIEF = "The range '{asked}' is not within the image's {size} bytes"
