"""Every error that is raised on purpose, as facts about the world.

    TransshipError
    ├── ConfigurationRefused      a setting cannot be used; the service does not start
    │   └── SeveralRefused        more than one; all are named
    ├── RequestRefused            the caller acts: 4xx
    ├── TransferFailed            the operator or time acts; `retryable` says whether time helps
    │   └── ImportStopped         cancelled or interrupted from outside
    ├── LockLost                  another worker took over; stop and touch nothing
    └── Superseded                the flow run has nothing to do any more

Each class takes domain values in positional order and hands all of them to ``super().__init__``,
so that it survives pickling. ``str(error)`` says what and which, then what to do about it; it
never holds a secret, a user name of a URL or a URL's query.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar


def human_size(size_bytes: int) -> str:
    """Return a size as people write it: ``1536`` becomes ``1.5 KiB``."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable: the loop ends at TiB")


class TransshipError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationRefused(TransshipError):
    """A setting cannot be used; nothing was started.

    Args:
        source: where the value stands: a file, ``environment`` or ``default``.
        option: dotted name of the option, e.g. ``staging.free_floor_bytes``.
        reason: what is wrong with it and what would be right.
    """

    def __init__(self, source: str, option: str, reason: str) -> None:
        super().__init__(source, option, reason)
        self.source, self.option, self.reason = source, option, reason

    def __str__(self) -> str:
        return f"{self.source}: {self.option}: {self.reason}"


class SeveralRefused(ConfigurationRefused):
    """Several settings cannot be used; all are named, so that one look mends them.

    Args:
        source, option, reason: the first one, as in `ConfigurationRefused`.
        others: ``source: option: reason`` of each further one.
    """

    def __init__(self, source: str, option: str, reason: str, others: Sequence[str]) -> None:
        super().__init__(source, option, reason)
        self.args = (source, option, reason, others)
        self.others = others

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *self.others))


class LockLost(TransshipError):
    """Another worker holds the image's lease, or the image is gone; this one must not touch it."""

    def __init__(self, image_id: str, epoch: int) -> None:
        super().__init__(image_id, epoch)
        self.image_id, self.epoch = image_id, epoch

    def __str__(self) -> str:
        return f"image {self.image_id} is no longer ours (lease epoch {self.epoch} was superseded)"


class Superseded(TransshipError):
    """A flow run has nothing to do: its import is over, or another process carries it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


# --- the caller acts ---------------------------------------------------------------------------


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
            " does not answer; try again when it runs, or delete the image and upload it anew"
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


# --- the operator or time acts -----------------------------------------------------------------


class TransferFailed(TransshipError):
    """An import could not be carried through.

    Attributes:
        retryable: True when the same attempt may succeed some seconds later.
        blames_data: True when the data themselves are at fault, or gone: keeping them helps nobody.
    """

    retryable: ClassVar[bool] = False
    blames_data: ClassVar[bool] = False


class ImportStopped(TransferFailed):
    """The import was ended from outside before it was complete."""


class ImportCancelled(ImportStopped):
    """Somebody cancelled the run, or deleted the image."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the import was cancelled: {self.why}"


class ImportInterrupted(ImportStopped):
    """The service stopped below the import; it is resumed by itself."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the import was interrupted: {self.why}"


class SourceUnreachable(TransferFailed):
    """The source's server could not be reached, or the connection broke."""

    retryable = True

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return f"{self.uri} cannot be reached: {self.reason}"


class SourceUntrusted(TransferFailed):
    """The source's TLS certificate is not accepted; time does not mend that."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        return (
            f"the certificate of {self.uri} is not accepted: {self.reason};"
            f" use a name that the certificate holds, or let this host trust its authority"
        )


class SourceBusy(TransferFailed):
    """The source's server answered that it cannot serve now (408, 425, 429, 5xx).

    Args:
        uri: for display.
        status: HTTP status, 408 to 599.
        retry_after_s: seconds that the server asked to wait, None when it did not say.
    """

    retryable = True

    def __init__(self, uri: str, status: int, retry_after_s: float | None) -> None:
        super().__init__(uri, status, retry_after_s)
        self.uri, self.status, self.retry_after_s = uri, status, retry_after_s

    def __str__(self) -> str:
        return f"{self.uri} answered HTTP {self.status}; try again later"


class SourceRefused(TransferFailed):
    """The source's server refused the request for good (other 4xx and unusable answers)."""

    def __init__(self, uri: str, status: int, reason: str) -> None:
        super().__init__(uri, status, reason)
        self.uri, self.status, self.reason = uri, status, reason

    def __str__(self) -> str:
        return f"{self.uri} answered HTTP {self.status}: {self.reason}; check the address"


class RedirectRefused(TransferFailed):
    """The source redirects to a place that is not accepted.

    Args:
        uri: the redirecting URI, for display.
        rule: name of the rule that decided.
        reason: what the rule found.
    """

    def __init__(self, uri: str, rule: str, reason: str) -> None:
        super().__init__(uri, rule, reason)
        self.uri, self.rule, self.reason = uri, rule, reason

    def __str__(self) -> str:
        return f"{self.uri} redirects to a place that is not accepted: {self.reason} ({self.rule})"


class SourceNotAccepted(TransferFailed):
    """The source was refused when the import ran: its rules or its addresses do not pass any more."""

    def __init__(self, uri: str, rule: str, reason: str) -> None:
        super().__init__(uri, rule, reason)
        self.uri, self.rule, self.reason = uri, rule, reason

    def __str__(self) -> str:
        return f"{self.uri} is not accepted: {self.reason} ({self.rule})"


class SourceTruncated(TransferFailed):
    """The source ended before the size that it announced."""

    retryable = True

    def __init__(self, uri: str, expected_bytes: int, received_bytes: int) -> None:
        super().__init__(uri, expected_bytes, received_bytes)
        self.uri, self.expected_bytes, self.received_bytes = uri, expected_bytes, received_bytes

    def __str__(self) -> str:
        return f"{self.uri} was truncated: {self.received_bytes} of {self.expected_bytes} bytes arrived"


class SourceTooLong(TransferFailed):
    """The source sent more than the size that it announced."""

    def __init__(self, uri: str, expected_bytes: int) -> None:
        super().__init__(uri, expected_bytes)
        self.uri, self.expected_bytes = uri, expected_bytes

    def __str__(self) -> str:
        return f"{self.uri} sent more than the {self.expected_bytes} bytes that it announced"


class SourceEmpty(TransferFailed):
    """The source holds no byte."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri

    def __str__(self) -> str:
        return f"{self.uri} is empty: 0 bytes"


class SourceTooSlow(TransferFailed):
    """The source stayed below the minimum speed, or sent nothing, for too long.

    Args:
        uri: for display.
        rate: bytes a second over the window.
        minimum: bytes a second that are asked for.
        window_s: seconds over which the rate was taken.
    """

    retryable = True

    def __init__(self, uri: str, rate: int, minimum: int, window_s: float) -> None:
        super().__init__(uri, rate, minimum, window_s)
        self.uri, self.rate, self.minimum, self.window_s = uri, rate, minimum, window_s

    def __str__(self) -> str:
        return f"{self.uri} sent {self.rate} bytes/s over {self.window_s:.0f} s; at least {self.minimum} are asked for"


class SourceTookTooLong(TransferFailed):
    """The whole download passed its time limit."""

    def __init__(self, uri: str, limit_s: float) -> None:
        super().__init__(uri, limit_s)
        self.uri, self.limit_s = uri, limit_s

    def __str__(self) -> str:
        return f"{self.uri} was not complete after {self.limit_s:.0f} s (download.total_timeout_s)"


class SourceChanged(TransferFailed):
    """The source was replaced while it was downloaded; the next attempt starts afresh."""

    retryable = True

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri

    def __str__(self) -> str:
        return f"{self.uri} changed while it was downloaded"


class ImageTooLarge(TransferFailed):
    """The image is larger than the site accepts.

    Args:
        what: which size: ``download``, ``decompressed image``, ``virtual size`` …
        size_bytes: size found; the size reached so far where the whole is unknown.
        limit_bytes: most bytes that are accepted.
        option: setting that holds the limit.
    """

    blames_data = True

    def __init__(self, what: str, size_bytes: int, limit_bytes: int, option: str) -> None:
        super().__init__(what, size_bytes, limit_bytes, option)
        self.what, self.size_bytes, self.limit_bytes, self.option = what, size_bytes, limit_bytes, option

    def __str__(self) -> str:
        return (
            f"{self.what} of {human_size(self.size_bytes)} is larger than the"
            f" {human_size(self.limit_bytes)} that {self.option} allows"
        )


class StagingFull(TransferFailed):
    """Staging has no room for this import; other imports and the databases keep theirs."""

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes

    def __str__(self) -> str:
        return (
            f"staging is full: {human_size(self.needed_bytes)} needed,"
            f" {human_size(max(0, self.available_bytes))} available; free some space or try again later"
        )


class StagingBusy(StagingFull):
    """Staging has no room now, but would have if other imports ended; waiting may help."""

    def __init__(self, needed_bytes: int, available_bytes: int, others_bytes: int) -> None:
        TransferFailed.__init__(self, needed_bytes, available_bytes, others_bytes)
        self.needed_bytes, self.available_bytes = needed_bytes, available_bytes
        self.others_bytes = others_bytes

    def __str__(self) -> str:
        return (
            f"staging is full: {human_size(self.needed_bytes)} needed,"
            f" {human_size(max(0, self.available_bytes))} available,"
            f" {human_size(self.others_bytes)} taken by other imports; try again later"
        )


class StagingBroken(TransferFailed):
    """Staging could not be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"staging cannot be used: {self.reason}"


class UploadLost(TransferFailed):
    """Uploaded data are not on staging any more, or are not what was uploaded."""

    blames_data = True

    def __init__(self, image_id: str, host: str) -> None:
        super().__init__(image_id, host)
        self.image_id, self.host = image_id, host

    def __str__(self) -> str:
        return f"the uploaded data of image {self.image_id} are gone from the staging of {self.host}; upload them again"


class UploadElsewhere(TransferFailed):
    """Uploaded data lie on another host than the one that was to import them."""

    def __init__(self, image_id: str, host: str, here: str) -> None:
        super().__init__(image_id, host, here)
        self.image_id, self.host, self.here = image_id, host, here

    def __str__(self) -> str:
        return (
            f"the uploaded data of image {self.image_id} lie on host {self.host}, and this is {self.here};"
            f" import the image again, and leave the run in the work queue host-{self.host}"
        )


class ArchiveRefused(TransferFailed):
    """The staged file is a compressed file that cannot be unpacked.

    Args:
        kind: ``gzip``, ``zip`` or ``lha``.
        reason: what is wrong with it.
    """

    blames_data = True

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return f"the {self.kind} file cannot be unpacked: {self.reason}"


class FormatMismatch(TransferFailed):
    """The data are in another format than the image declares."""

    blames_data = True

    def __init__(self, declared: str, detected: str) -> None:
        super().__init__(declared, detected)
        self.declared, self.detected = declared, detected

    def __str__(self) -> str:
        return (
            f"the image declares disk_format {self.declared} but its data are {self.detected};"
            f" set disk_format to what the data are and import again"
        )


class FormatUnsafe(TransferFailed):
    """The data fail a safety check of their format."""

    blames_data = True

    def __init__(self, detected: str, reason: str) -> None:
        super().__init__(detected, reason)
        self.detected, self.reason = detected, reason

    def __str__(self) -> str:
        return f"the {self.detected} data are not safe to use: {self.reason}"


class ConversionFailed(TransferFailed):
    """qemu-img could not convert the image."""

    blames_data = True

    def __init__(self, source_format: str, target_format: str, reason: str) -> None:
        super().__init__(source_format, target_format, reason)
        self.source_format, self.target_format, self.reason = source_format, target_format, reason

    def __str__(self) -> str:
        return f"the image cannot be converted from {self.source_format} to {self.target_format}: {self.reason}"


class PluginFailed(TransferFailed):
    """An import plugin ended with an error that it did not explain."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(plugin, reason)
        self.plugin, self.reason = plugin, reason

    def __str__(self) -> str:
        return f"import plugin {self.plugin} failed: {self.reason}"


class StoreFull(TransferFailed):
    """A store has no room; the partial object has been removed."""

    def __init__(self, store: str, needed_bytes: int) -> None:
        super().__init__(store, needed_bytes)
        self.store, self.needed_bytes = store, needed_bytes

    def __str__(self) -> str:
        return f"store {self.store} is full: there is no room for {human_size(self.needed_bytes)}"


class StoreUnavailable(TransferFailed):
    """A store did not answer or said that it is busy; the data it had before is untouched."""

    retryable = True

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} is unavailable: {self.reason}"


class CopyBeingRemoved(TransferFailed):
    """Housekeeping removes an earlier copy of the image from the store; its place is free soon."""

    retryable = True

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.store = store

    def __str__(self) -> str:
        return f"store {self.store}: an earlier copy of the image is being removed; try again in a minute"


class StoreDenied(TransferFailed):
    """A store does not let us write, read or delete."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} denies access: {self.reason}; check its permissions"


class StoreMisconfigured(TransferFailed):
    """A store's settings cannot be used; nothing was written."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store, self.reason = store, reason

    def __str__(self) -> str:
        return f"store {self.store} is not set up right: {self.reason}"


class AlreadyStored(TransferFailed):
    """The store holds an object of that name that is not known to be ours; it is left alone."""

    def __init__(self, store: str, name: str) -> None:
        super().__init__(store, name)
        self.store, self.name = store, name

    def __str__(self) -> str:
        return f"store {self.store} already holds an object named {self.name} that this service did not write"


class ObjectMissing(TransferFailed):
    """The store does not hold the object that it should hold."""

    def __init__(self, store: str, location: str) -> None:
        super().__init__(store, location)
        self.store, self.location = store, location

    def __str__(self) -> str:
        return f"store {self.store} does not hold {self.location}"


class ImageDataUnavailable(TransferFailed):
    """No store can deliver the image's data now; which and why is in the log."""

    retryable = True

    def __init__(self, image_id: str) -> None:
        super().__init__(image_id)
        self.image_id = image_id

    def __str__(self) -> str:
        return f"No store can deliver the data of image {self.image_id} now; try again later"


class StoredDiffers(TransferFailed):
    """What the store holds is not what was written to it."""

    retryable = True

    def __init__(self, store: str, expected: str, found: str) -> None:
        super().__init__(store, expected, found)
        self.store, self.expected, self.found = store, expected, found

    def __str__(self) -> str:
        return f"store {self.store} holds other data than were written: expected {self.expected}, found {self.found}"


class CopyDiffers(TransferFailed):
    """Data that were taken for the image's are others; nobody saw a copy of them."""

    def __init__(self, origin: str, what: str, expected: str, found: str) -> None:
        super().__init__(origin, what, expected, found)
        self.origin, self.what, self.expected, self.found = origin, what, expected, found

    def __str__(self) -> str:
        return (
            f"the data in {self.origin} are not the image's: {self.what} is {self.found}"
            f" where the image has {self.expected}"
        )


class NoReadableCopy(TransferFailed):
    """None of the stores that hold an image could be read; nothing was written.

    Args:
        image_id: the image.
        reasons: one for each store.
    """

    retryable = True

    def __init__(self, image_id: str, reasons: Sequence[str]) -> None:
        super().__init__(image_id, reasons)
        self.image_id, self.reasons = image_id, reasons

    def __str__(self) -> str:
        why = "; ".join(self.reasons) or "no store holds it"
        return f"image {self.image_id} cannot be read from any store: {why}"


class StoresFailed(TransferFailed):
    """One or more stores could not be written; the message holds each one's reason.

    Args:
        reasons: ``store: reason`` for each store that failed.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class StoresUnavailable(StoresFailed):
    """Stores could not be written, each for a reason that may pass."""

    retryable = True


class RemoteUnknown(TransferFailed):
    """There is no way to the Glance of a region."""

    def __init__(self, region: str, reason: str) -> None:
        super().__init__(region, reason)
        self.region, self.reason = region, reason

    def __str__(self) -> str:
        return f"the Glance of region {self.region} is not known: {self.reason}"


class RemoteRefused(TransferFailed):
    """The Glance of a region does not give an image out.

    Args:
        region, image_id: what was asked for.
        status: HTTP status of its answer.
    """

    def __init__(self, region: str, image_id: str, status: int) -> None:
        super().__init__(region, image_id, status)
        self.region, self.image_id, self.status = region, image_id, status

    def __str__(self) -> str:
        match self.status:
            case 401:
                reason = "it does not accept the token, which has expired or is not valid there; use a new one"
            case 403:
                reason = "the token's owner may not read it"
            case 404:
                reason = "it has no such image, or the token's owner may not see it"
            case _:
                reason = "check the endpoint of its region"
        return f"image {self.image_id} in region {self.region}: its Glance answered HTTP {self.status}: {reason}"


class RemoteUnusable(TransferFailed):
    """An image of another Glance cannot be imported as it is."""

    def __init__(self, region: str, image_id: str, reason: str) -> None:
        super().__init__(region, image_id, reason)
        self.region, self.image_id, self.reason = region, image_id, reason

    def __str__(self) -> str:
        return f"image {self.image_id} in region {self.region} cannot be imported: {self.reason}"


class SourceDiffers(TransferFailed):
    """What was downloaded is not what its source says it is.

    Args:
        source: for display.
        what: ``size``, or the name of a digest's algorithm.
        expected, found: as text.
    """

    def __init__(self, source: str, what: str, expected: str, found: str) -> None:
        super().__init__(source, what, expected, found)
        self.source, self.what, self.expected, self.found = source, what, expected, found

    def __str__(self) -> str:
        return (
            f"{self.source}: the {self.what} of the downloaded data is {self.found}, its record says {self.expected};"
            " the data were changed on the way or at the source"
        )


class IdentityUnavailable(TransferFailed):
    """A Keystone does not answer, or not with what was asked for."""

    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"the identity service {self.url} is unavailable: {self.reason}; try again later"


class IdentityRefused(TransferFailed):
    """A Keystone does not let the service log in."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"the identity service {self.url} refuses the service's login: {self.reason}; check its credentials"


class CatalogUnavailable(TransferFailed):
    """The catalogue's database does not answer now; nothing was written.

    Args:
        reason: what is the matter, without names of hosts.
    """

    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the catalogue is unavailable: {self.reason}; try again later"


class SiteMisconfigured(TransferFailed):
    """A setting of this site cannot be used; the operator has to mend it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"this site is not set up right, ask its operator: {self.reason}"


class DispatchFailed(TransferFailed):
    """Prefect refused to take the run."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"Prefect does not take the run: {self.reason}; 'transship deploy' applies the deployments"


# --- operating the service ---------------------------------------------------------------------


class WarmEngineUnavailable(TransshipError):
    """Runs cannot be carried by warm processes; a slower engine takes them meanwhile."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the warm engine cannot be used: {self.reason}"


class StartFailed(TransshipError):
    """A component did not come up; everything that was started has been stopped again.

    Args:
        component: name of the component, or of several.
        reason: how it ended, or how long it was waited for.
        log_dir: directory of the log files.
    """

    def __init__(self, component: str, reason: str, log_dir: Path) -> None:
        super().__init__(component, reason, log_dir)
        self.component, self.reason, self.log_dir = component, reason, log_dir

    def __str__(self) -> str:
        return f"{self.component} did not start: {self.reason}; see its log in {self.log_dir}"


class StopFailed(TransshipError):
    """The supervisor did not end in time; it goes on stopping."""

    def __init__(self, pid: int, limit_s: float) -> None:
        super().__init__(pid, limit_s)
        self.pid, self.limit_s = pid, limit_s

    def __str__(self) -> str:
        return f"process {self.pid} has not ended after {self.limit_s:g} s; 'transship down --now' kills everything"


class ServiceUnreachable(TransshipError):
    """A service of this product does not answer.

    Args:
        service: ``Images API`` or ``Prefect``.
        url: where it was asked.
        reason: why it does not answer.
    """

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(service, url, reason)
        self.service, self.url, self.reason = service, url, reason

    def __str__(self) -> str:
        return f"{self.service} at {self.url} does not answer: {self.reason}; 'transship status' shows what runs"


class NotificationUndelivered(TransshipError):
    """A notification could not be handed over; it waits, and is tried again by itself.

    Args:
        sink: where it was to go.
    """

    def __init__(self, sink: str, reason: str) -> None:
        super().__init__(sink, reason)
        self.sink, self.reason = sink, reason

    def __str__(self) -> str:
        return f"notifications to {self.sink} cannot be sent now: {self.reason}"


class ServiceRefused(TransshipError):
    """A service of this product answered a request with an error.

    Args:
        service: ``Images API`` or ``Prefect``.
        status: HTTP status.
        reason: text of the answer.
    """

    def __init__(self, service: str, status: int, reason: str) -> None:
        super().__init__(service, status, reason)
        self.service, self.status, self.reason = service, status, reason

    def __str__(self) -> str:
        return f"{self.service}: {self.reason} (HTTP {self.status})"


class CommandRefused(TransshipError):
    """A command line cannot be carried out as it is; nothing was changed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class PushGarbled(TransshipError):
    """What came over the runner's socket is no message of ours; the connection is closed, and the run is scheduled.

    Args:
        beginning: first characters of the line.
    """

    def __init__(self, beginning: str) -> None:
        super().__init__(beginning)
        self.beginning = beginning

    def __str__(self) -> str:
        return f"no message of keeper or runner: {self.beginning!r}; do both run the same release?"
