"""What the service itself leans on: Keystone, the catalogue, Prefect, its own settings."""

from __future__ import annotations

from transship.domain.errors.transfers import TransferFailed


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
