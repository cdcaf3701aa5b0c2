"""The limits of projects in Keystone, read with oslo.limit.

oslo.limit keeps one connection to Keystone for the whole process, and would log in with options of its own; it gets
the service's login instead ([decision 47](../../docs/decisions/0047-quotas.md)).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, cast

import structlog
from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException
from openstack.identity.v3._proxy import Proxy
from oslo_limit import limit
from oslo_limit.exception import SessionInitError

from config.settings import Settings
from transship.domain.errors import IdentityUnavailable
from transship.domain.quota import Limit, Resource
from transship.identity.login import Login, v3_url

KEPT_S: Final = 5.0
"""Seconds for which the limits of a project are cached."""

_SERVICE_TYPE: Final = "image"
_GROUP: Final = "oslo_limit"
_MAKING: Final = threading.Lock()
_FAULTS: Final = (ClientException, SDKException, SessionInitError, ValueError, NotImplementedError)
"""What oslo.limit raises: Keystone is away or refuses, the endpoint is unknown, or the limits are hierarchical."""

log = structlog.get_logger(__name__)


class UnifiedLimits:
    """Reads the limits of projects; used from any thread.

    Args:
        settings: with a login that has a password.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._enforcer: limit.Enforcer | None = None
        self._read: dict[str, tuple[float, Mapping[Resource, Limit]]] = {}

    def of(self, project: str) -> Mapping[Resource, Limit]:
        """Return all limits of a project; as in Glance, a limit that is not registered is 0.

        Raises:
            IdentityUnavailable: Keystone cannot be asked for them now.
        """
        read_at, limits = self._read.get(project, (float("-inf"), {}))
        now = self._clock()
        if now - read_at <= KEPT_S:
            return limits
        limits = self._ask(project)
        self._read = {name: kept for name, kept in self._read.items() if now - kept[0] <= KEPT_S}
        self._read[project] = (now, limits)
        return limits

    def problem(self) -> str:
        """Return why limits cannot be read or allow nothing, for the operator; empty: nothing is wrong."""
        try:
            registered = dict(self._new_enforcer().get_registered_limits(None))  # type: ignore[arg-type]  # None: all
        except _FAULTS as error:
            url = self._settings.auth.auth_url
            return f"{url} cannot be asked for limits ({error}); give its account a role on the system"
        missing = [each.value for each in Resource if each.value not in registered]
        return f"not registered in Keystone, so 0: {', '.join(missing)}; register them" if missing else ""

    def _ask(self, project: str) -> Mapping[Resource, Limit]:
        try:
            enforcer = self._enforcer = self._enforcer or self._new_enforcer()
            # Two requests for all limits together; asked for by name, each limit takes two.
            in_force = dict(enforcer.get_registered_limits(None))  # type: ignore[arg-type]  # None: all of them
            in_force |= dict(enforcer.get_project_limits(project, None))  # type: ignore[arg-type]
        except _FAULTS as error:
            log.error("limits of a project cannot be read", project=project, reason=str(error))  # noqa: TRY400
            raise IdentityUnavailable(
                self._settings.auth.auth_url, f"it cannot be asked for the project's limits ({type(error).__name__})"
            ) from error
        return {each: Limit(each.value, in_force.get(each.value, 0) * each.unit) for each in Resource}

    def _new_enforcer(self) -> limit.Enforcer:
        auth, quota = self._settings.auth, self._settings.quota
        options = {
            "endpoint_id": quota.endpoint_id or None,
            "endpoint_service_type": _SERVICE_TYPE,
            "endpoint_region_name": quota.endpoint_region_name or None,
        }
        with _MAKING:
            for name, value in options.items():
                limit.CONF.set_override(name, value, group=_GROUP)
            # Limits of other projects are shown to accounts with a role on the system.
            session = Login(auth, system=True).session
            url = v3_url(auth.auth_url)
            keystone = Connection(session=session, identity_api_version="3", identity_endpoint_override=url)
            limit._SDK_CONNECTION = cast(Proxy, keystone.identity)  # noqa: SLF001 - see the module
            return limit.Enforcer(lambda _project, _names: {}, cache=False)
