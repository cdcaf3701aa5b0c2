"""Errors of sources: servers, addresses, another Glance."""

from __future__ import annotations

from typing import Final

from transship.domain.errors.transfers import TransferFailed

ANOTHER_ADDRESS: Final = "use another address"


class SourceUnreachable(TransferFailed):
    """The source's server could not be reached, or the connection broke."""

    retryable = True

    uri: str
    reason: str

    BRIEF = "{uri} cannot be reached: {reason}"
    REMEDY = "check the address, or try again later"


class SourceUntrusted(TransferFailed):
    """The source's TLS certificate is not accepted; a retry does not help."""

    uri: str
    reason: str

    BRIEF = "the certificate of {uri} is not accepted: {reason}"
    REMEDY = "use a host name that the certificate covers, or ask the operator to trust its authority"


class SourceBusy(TransferFailed):
    """The source's server cannot serve the request now (408, 425, 429, 5xx).

    Attributes:
        uri: for display.
        status: HTTP status, 408 to 599.
        retry_after_s: seconds to wait according to the server; None when it did not say.
    """

    retryable = True

    uri: str
    status: int
    retry_after_s: float | None

    BRIEF = "{uri} answered HTTP {status}"
    REMEDY = "try again later"


class SourceRefused(TransferFailed):
    """The source's server refused the request permanently (other 4xx and unusable responses)."""

    uri: str
    status: int
    reason: str

    BRIEF = "{uri} answered HTTP {status}: {reason}"
    REMEDY = "check the address"


class RedirectRefused(TransferFailed):
    """The source redirects to a place that is not accepted.

    Attributes:
        uri: the redirecting URI, for display.
        rule: name of the rule that decided.
        reason: what the rule found.
        remedy: what would pass.
    """

    uri: str
    rule: str
    reason: str
    remedy: str = ANOTHER_ADDRESS

    BRIEF = "{uri} redirects to a place that is not accepted: {reason} ({rule})"


class SourceNotAccepted(TransferFailed):
    """The source was refused when the import ran, because its address or the site's rules have changed."""

    uri: str
    rule: str
    reason: str
    remedy: str = ANOTHER_ADDRESS

    BRIEF = "{uri} is not accepted: {reason} ({rule})"


class SourceTruncated(TransferFailed):
    """The source sent fewer bytes than it announced."""

    retryable = True

    uri: str
    expected_bytes: int
    received_bytes: int

    BRIEF = "{uri} was truncated: {received_bytes} of {expected_bytes} bytes arrived"
    REMEDY = "try again, or ask whoever runs that server"


class SourceTooLong(TransferFailed):
    """The source sent more bytes than it announced."""

    uri: str
    expected_bytes: int

    BRIEF = "{uri} sent more than the {expected_bytes} bytes that it announced"
    REMEDY = "ask whoever runs that server"


class SourceEmpty(TransferFailed):
    """The source has no data."""

    uri: str

    BRIEF = "{uri} is empty: 0 bytes"
    REMEDY = "check the address"


class SourceTooSlow(TransferFailed):
    """The source stayed below the minimum speed, or sent nothing, for too long.

    Attributes:
        uri: for display.
        rate: bytes a second over the window.
        minimum: required bytes a second.
        window_s: seconds over which the rate was measured.
    """

    retryable = True

    uri: str
    rate: int
    minimum: int
    window_s: float

    BRIEF = "{uri} sent {rate} bytes/s over {window_s:.0f} s; at least {minimum} are required"
    REMEDY = "use a faster mirror, or try again later"


class SourceTookTooLong(TransferFailed):
    """The whole download exceeded its time limit."""

    uri: str
    limit_s: float

    BRIEF = "{uri} was not complete after {limit_s:.0f} s (download.total_timeout_s)"
    REMEDY = "use a faster mirror, or ask the operator to raise the limit"


class SourceChanged(TransferFailed):
    """The source was replaced during the download; the next attempt starts from the beginning."""

    retryable = True

    uri: str

    BRIEF = "{uri} changed while it was downloaded"
    REMEDY = "import it again when it is complete"


class RemoteUnknown(TransferFailed):
    """The Glance of a region cannot be located."""

    region: str
    reason: str
    remedy: str = "name a region of the service catalogue, or ask the operator to add it to 'remotes'"

    BRIEF = "the Glance of region {region} is not known: {reason}"


class RemoteRefused(TransferFailed):
    """The Glance of a region does not deliver an image.

    Attributes:
        region, image_id: the requested image.
        status: HTTP status of its response.
    """

    region: str
    image_id: str
    status: int

    BRIEF = "image {image_id} in region {region}: its Glance answered HTTP {status}: {reason}"

    @property
    def reason(self) -> str:
        """What the status means."""
        return self._meaning[0]

    @property
    def remedy(self) -> str:
        """What the caller can do about that status."""
        return self._meaning[1]

    @property
    def _meaning(self) -> tuple[str, str]:
        match self.status:
            case 401:
                return "it does not accept the token, which has expired or is not valid there", "use a new one"
            case 403:
                return "the token's owner may not read it", "ask its owner for access"
            case 404:
                return "it has no such image, or the token's owner may not see it", "check the image's id"
        return "it refuses the request", "check the endpoint of its region"


class RemoteUnusable(TransferFailed):
    """An image of another Glance cannot be imported.

    Attributes:
        region, image_id: of the image.
        reason: why not.
        remedy: what would help; may be empty.
    """

    region: str
    image_id: str
    reason: str
    remedy: str = ""

    BRIEF = "image {image_id} in region {region} cannot be imported: {reason}"


class SourceDiffers(TransferFailed):
    """The downloaded data differ from what the source announced.

    Attributes:
        source: for display.
        what: ``size``, or the name of a digest's algorithm.
        expected, found: as text; expected according to the Glance's record or the head of the response.
    """

    source: str
    what: str
    expected: str
    found: str

    BRIEF = "{source}: the {what} of the downloaded data is {found}, the source says {expected}"
    REMEDY = "the data were changed on the way or at the source, or what it says is wrong: ask whoever runs it"
