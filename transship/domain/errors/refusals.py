"""Requests that the caller has to change: what the API answers with 4xx."""

from __future__ import annotations

from collections.abc import Sequence

from transship.domain.errors.base import TransshipError, human_size


class RequestRefused(TransshipError):
    """The request cannot be carried out as it is; nothing was changed."""


class Unauthenticated(RequestRefused):
    """Nobody vouches for the caller.

    Args:
        uri: the Keystone whose tokens are taken.
        reason: what is wrong with the token, and what to do.
    """

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return f"The request you have made requires authentication: {self.reason}"


class EndpointUnknown(RequestRefused):
    """A service catalogue has no address for what is asked for.

    Args:
        service: type of the service.
        region, interface: as asked for.
        regions: those that the catalogue has for the service.
        interfaces: those that it has in the region; none: the region is not known.
    """

    def __init__(
        self, service: str, region: str, interface: str, regions: Sequence[str], interfaces: Sequence[str]
    ) -> None:
        super().__init__(service, region, interface, regions, interfaces)
        self.service, self.region, self.interface = service, region, interface
        self.regions, self.interfaces = regions, interfaces

    def __str__(self) -> str:
        if self.interfaces:
            return (
                f"region {self.region} has no {self.interface} endpoint of a service of type {self.service};"
                f" it has: {', '.join(self.interfaces)}"
            )
        known = ", ".join(self.regions) or "none"
        return f"the service catalogue has no service of type {self.service} in region {self.region}; regions: {known}"


class BadRequest(RequestRefused):
    """The request is malformed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class UriRefused(RequestRefused):
    """A URI is not accepted as an import source.

    Args:
        uri: for display: without user name, password and query.
        rule: name of the rule that decided, e.g. ``allowed_ports``.
        reason: what the rule found, and what would pass.
    """

    def __init__(self, uri: str, rule: str, reason: str) -> None:
        super().__init__(uri, rule, reason)
        self.uri, self.rule, self.reason = uri, rule, reason

    def __str__(self) -> str:
        return f"URI for web-download does not pass filtering: {self.uri}: {self.reason} ({self.rule})"


class NamesUnanswered(UriRefused):
    """Whether a URI is accepted cannot be said now: nobody tells the address of its host. That may pass.

    Args:
        uri: for display: without user name, password and query.
        rule: always the same; the arguments are those of `UriRefused`.
        reason: what was tried.
    """

    def __str__(self) -> str:
        return f"URI for web-download cannot be judged now: {self.uri}: {self.reason} ({self.rule})"


class AlreadyInStore(RequestRefused):
    """A copy is asked for in a store that holds the image."""

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.store = store

    def __str__(self) -> str:
        return f"Image is already present at store '{self.store}'"


class AlreadyBeingCopied(RequestRefused):
    """A copy is asked for in a store to which the image is being copied now."""

    def __init__(self, store: str, task_id: str) -> None:
        super().__init__(store, task_id)
        self.store, self.task_id = store, task_id

    def __str__(self) -> str:
        return f"Image is already being copied to store '{self.store}' (task {self.task_id})"


class ImageNotFound(RequestRefused):
    """No such image, or none that the caller may see."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"No image found with ID {self.image_id}"


class TaskNotFound(RequestRefused):
    """No such task, or none that the caller may see."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"No task found with ID {self.task_id}"


class Conflict(RequestRefused):
    """The image's present state does not allow the request."""


class ImageExists(Conflict):
    """An image of that id exists or existed; ids are never used twice."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"Image ID {self.image_id} already exists!"


class WrongStatus(Conflict):
    """The method starts from another image status."""

    def __init__(self, image_id: str, found: str, required: str, action: str) -> None:
        super().__init__(image_id, found, required, action)
        self.image_id, self.found, self.required, self.action = image_id, found, required, action

    def __str__(self) -> str:
        return f"Image {self.image_id} is {self.found}; it needs to be {self.required} to use '{self.action}'"


class FormatMissing(Conflict):
    """The image's disk or container format is not set."""

    def __init__(self, image_id: str, field: str) -> None:
        super().__init__(image_id, field)
        self.image_id, self.field = image_id, field

    def __str__(self) -> str:
        return f"'{self.field}' needs to be set before import"


class ImportRunning(Conflict):
    """Another import of this image holds the lock; it is not disturbed."""

    def __init__(self, image_id: str, task_id: str) -> None:
        super().__init__(image_id, task_id)
        self.image_id, self.task_id = image_id, task_id

    def __str__(self) -> str:
        return (
            f"New operation on image '{self.image_id}' is not permitted as prior operation is still in progress"
            f" (task {self.task_id})"
        )


class ImageChanged(Conflict):
    """The image changed between reading and writing it; read it again."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"Image {self.image_id} was changed by another request; read it and try again"


class StoreUnknown(Conflict):
    """No store of that id is configured, or it is a reserved one."""

    def __init__(self, store: str, known: Sequence[str]) -> None:
        super().__init__(store, known)
        self.store, self.known = store, known

    def __str__(self) -> str:
        return f"Unknown store '{self.store}'; the stores of this site are: {', '.join(self.known) or 'none'}"


class StoreReadOnly(Conflict):
    """The store cannot be written, so it cannot be a target."""

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.store = store

    def __str__(self) -> str:
        return f"Store '{self.store}' is read-only and cannot be imported to"


class NotInStore(RequestRefused):
    """The store does not hold the image."""

    def __init__(self, image_id: str, store: str) -> None:
        super().__init__(image_id, store)
        self.image_id, self.store = image_id, store

    def __str__(self) -> str:
        return f"Image {self.image_id} is not stored in store '{self.store}'"


class PropertyConflict(Conflict):
    """A property that should be there is not, or the other way round."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"Property {self.name} {self.reason}"


class Forbidden(RequestRefused):
    """The caller may not do this."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class QuotaExceeded(RequestRefused):
    """A count or size limit of the site would be passed."""

    def __init__(self, what: str, limit: int, asked: int) -> None:
        super().__init__(what, limit, asked)
        self.what, self.limit, self.asked = what, limit, asked

    def __str__(self) -> str:
        return f"{self.what}: {self.asked} asked for, at most {self.limit} allowed"


class TagNotFound(RequestRefused):
    """The image does not carry the tag."""

    def __init__(self, image_id: str, tag: str) -> None:
        super().__init__(image_id, tag)
        self.image_id, self.tag = image_id, tag

    def __str__(self) -> str:
        return f"Image {self.image_id} has no tag '{self.tag}'"


class BodyTooLarge(RequestRefused):
    """A request body is longer than the API reads."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"The request body is longer than the {human_size(self.limit_bytes)} that are accepted"


class RequestIdTooLong(RequestRefused):
    """The caller's own request id is longer than the site keeps."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"x-openstack-request-id is too long, max size {self.limit}"


class MediaTypeRefused(RequestRefused):
    """A request body is of a media type that the resource does not read."""

    def __init__(self, found: str, accepted: Sequence[str]) -> None:
        super().__init__(found, accepted)
        self.found, self.accepted = found, accepted

    def __str__(self) -> str:
        return f"Content type '{self.found}' is not accepted; send one of: {', '.join(self.accepted)}"


class MethodNotOffered(RequestRefused):
    """What was asked for belongs to an import method that this site does not offer."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method

    def __str__(self) -> str:
        return f"'{self.method}' method is not available at this site."


class DataTypeRefused(RequestRefused):
    """Image data were announced as something else than plain bytes."""

    def __init__(self, found: str, accepted: str) -> None:
        super().__init__(found, accepted)
        self.found, self.accepted = found, accepted

    def __str__(self) -> str:
        return f"Content type '{self.found}' is not accepted for image data; send {self.accepted}"


class StagedAlready(Conflict):
    """The image has data on staging; they stay."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"The image {self.image_id} has data on staging: import them, or delete the image"


class UploadRunning(Conflict):
    """Data of the image are being uploaded; that upload is not disturbed."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"Data of image {self.image_id} are being uploaded by another request; wait for its end"


class UploadIncomplete(Conflict):
    """The data of the image on staging are not whole: an upload is running, or was cut off."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return (
            f"The data of image {self.image_id} on staging are not complete;"
            " wait for the end of the upload, or stage them again if it was cut off"
        )


class UploadTakenOver(Conflict):
    """Another request took the image while this one uploaded; what this one brought is gone."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"Image {self.image_id} was taken over by another request while its data were uploaded"


class UploadTooSlow(RequestRefused):
    """The caller sent its data too slowly, or none for too long.

    Args:
        rate: bytes a second over the window.
        minimum: bytes a second that are asked for.
        window_s: seconds over which the rate was taken.
    """

    def __init__(self, rate: int, minimum: int, window_s: float) -> None:
        super().__init__(rate, minimum, window_s)
        self.rate, self.minimum, self.window_s = rate, minimum, window_s

    def __str__(self) -> str:
        return (
            f"The data came with {self.rate} bytes/s over {self.window_s:.0f} s;"
            f" at least {self.minimum} are asked for (section upload of the settings)"
        )


class ImageGone(RequestRefused):
    """The image was deleted while its data were uploaded; they are gone too."""

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"Image {self.image_id} was deleted while its data were uploaded"


class HostGone(RequestRefused):
    """The data lie in the staging of a host whose worker does not run."""

    def __init__(self, image_id: str, host: str) -> None:
        super().__init__(image_id, host)
        self.image_id, self.host = image_id, host

    def __str__(self) -> str:
        return (
            f"Stage host is unavailable: the data of image {self.image_id} lie on host {self.host}, whose worker"
            " does not run; try again when it runs, or stage the data again"
        )


class RangeUnsatisfiable(RequestRefused):
    """The bytes asked for are not in the image data.

    Args:
        asked: the header as it was sent.
        size: bytes of the image data.
    """

    def __init__(self, asked: str, size: int) -> None:
        super().__init__(asked, size)
        self.asked, self.size = asked, size

    def __str__(self) -> str:
        return f"The range '{self.asked}' is not within the image's {self.size} bytes"
