"""The quotas in force: limits in Keystone, or one setting for every project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.settings import Settings
from transship.domain.quota import Limit, Quota, Resource

if TYPE_CHECKING:
    from transship.identity.unified_limits import UnifiedLimits


class Quotas:
    """Finds the quota of a project; used from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._storage_bytes = settings.quota.user_storage_bytes
        self._unified: UnifiedLimits | None = None
        if settings.quota.unified_limits:
            # oslo.limit takes a third of a second and 20 MiB, which only sites with these limits need.
            from transship.identity.unified_limits import UnifiedLimits  # noqa: PLC0415

            self._unified = UnifiedLimits(settings)

    @property
    def unified(self) -> bool:
        """Whether Keystone has the limits."""
        return self._unified is not None

    def of(self, project: str) -> Quota | None:
        """Return the quota of a project; None if projects have none.

        Raises:
            IdentityUnavailable: Keystone cannot be asked for it now.
        """
        if self._unified is not None:
            return Quota(project, self._unified.of(project))
        if self._storage_bytes:
            return Quota(project, {Resource.SIZE: Limit("quota.user_storage_bytes", self._storage_bytes)})
        return None
