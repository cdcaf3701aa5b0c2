"""Where bytes come from: servers, addresses, another Glance."""

from __future__ import annotations

from transship.domain.errors.transfers import TransferFailed


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
        expected, found: as text; what the record of a Glance says, or the head of an answer.
    """

    def __init__(self, source: str, what: str, expected: str, found: str) -> None:
        super().__init__(source, what, expected, found)
        self.source, self.what, self.expected, self.found = source, what, expected, found

    def __str__(self) -> str:
        return (
            f"{self.source}: the {self.what} of the downloaded data is {self.found}, the source says {self.expected};"
            " the data were changed on the way or at the source, or what it says is wrong"
        )
