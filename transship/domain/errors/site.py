"""Errors of what the service depends on: Keystone, the catalogue, Prefect, its own settings."""

from __future__ import annotations

from transship.domain.errors.base import TransshipError
from transship.domain.errors.transfers import TransferFailed


class IdentityUnavailable(TransferFailed):
    """A Keystone does not answer, or its answer is unusable."""

    retryable = True

    url: str
    reason: str

    BRIEF = "the identity service {url} is unavailable: {reason}"
    REMEDY = "try again later"


class IdentityRefused(TransferFailed):
    """A Keystone does not accept the service's own login."""

    url: str
    reason: str

    BRIEF = "the identity service {url} refuses the service's login: {reason}"
    REMEDY = "check its credentials"


class CatalogUnavailable(TransferFailed):
    """The catalogue's database does not answer now; nothing was written.

    Attributes:
        reason: what is wrong, without host names.
    """

    retryable = True

    reason: str

    BRIEF = "the catalogue is unavailable: {reason}"
    REMEDY = "try again later"


class SiteMisconfigured(TransferFailed):
    """A setting of this site cannot be used; the operator has to correct it."""

    reason: str

    BRIEF = "this site is not configured correctly: {reason}"
    REMEDY = "ask its operator"


class DispatchFailed(TransferFailed):
    """Prefect refused to create the flow run."""

    reason: str

    BRIEF = "Prefect refuses the flow run: {reason}"
    REMEDY = "'transship deploy' applies the deployments"


class InternalFault(TransferFailed):
    """A defect of this service ended the import; the log of the flow run has the traceback.

    Attributes:
        kind: class of the exception.
        text: its text, which users do not see.
    """

    kind: str
    text: str

    BRIEF = "internal error ({kind})"
    REMEDY = "the operator finds the trace in the log of the flow run"


class PrefectAway(TransshipError):
    """Prefect's server cannot be reached or cannot serve now; the keeper tries again."""

    reason: str

    BRIEF = "Prefect cannot serve now: {reason}"


class PrefectRefused(TransshipError):
    """Prefect's server refused a request; the same request will be refused again.

    Attributes:
        status: HTTP status, 400 to 499.
        reason: the server's text, shortened.
    """

    status: int
    reason: str

    BRIEF = "Prefect answered HTTP {status}: {reason}"


class UnknownPrefectState(TransshipError):
    """Prefect reports a state type that this release does not know."""

    state_type: str
    state_name: str

    BRIEF = "unknown Prefect state {state_name} ({state_type})"
    REMEDY = "run the Prefect release that this release of Transship is locked to"
