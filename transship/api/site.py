"""The state shared by all requests, and the state of one request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import structlog
from starlette.requests import Request

from config.settings import Settings, StoreSettings
from config.settings.stores import store_facts
from transship.api.policy import Policy
from transship.api.protection import PropertyProtection
from transship.api.schemas import Schemas
from transship.api.uri_judge import UriJudge
from transship.catalog.engine import Catalog
from transship.catalog.imports import Caller
from transship.domain.errors import ImageNotFound, StoreUnavailable, StoreUnknown, TaskNotFound
from transship.domain.image import Image
from transship.domain.placement import StoreFacts
from transship.domain.policies import Action
from transship.domain.visibility import Viewer
from transship.identity.caller import Identity
from transship.identity.quotas import Quotas
from transship.stores.base import StoreDriver
from transship.stores.pool import DRIVERS, new_driver
from transship.stores_in_force import stores_in_force

STORES_KEPT_S: Final = 5.0
"""Seconds for which store settings from the catalogue are cached."""

log = structlog.get_logger(__name__)

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class StoreRegistry:
    """The stores of the site: the configured settings, overridden by edits in the Prefect UI.

    Args:
        settings: all settings.
        catalog: where the keeper writes edited settings.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, settings: Settings, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._catalog, self._clock = settings, catalog, clock
        self._lock = threading.Lock()
        self._in_force: Mapping[str, StoreSettings] = {}
        self._read_at = float("-inf")

    def settings_in_force(self) -> Mapping[str, StoreSettings]:
        """Return the settings of all stores by id, in configured order; cached for some seconds."""
        with self._lock:
            if self._clock() - self._read_at > STORES_KEPT_S:
                self._in_force = stores_in_force(self._settings, self._catalog)
                self._read_at = self._clock()
            return self._in_force

    def facts(self) -> tuple[StoreFacts, ...]:
        """Return the public facts about the stores, in configured order."""
        return tuple(
            store_facts(store_id, store, default=store_id == self._settings.default_store)
            for store_id, store in self.settings_in_force().items()
        )

    @contextmanager
    def using(self, store_id: str) -> Iterator[StoreDriver]:
        """Provide the open driver of a store for the duration of a block.

        Raises:
            StoreUnknown: the store is not configured any more.
            StoreUnavailable, StoreDenied: it cannot be opened.
        """
        with DRIVERS.using(store_id, self._settings_of(store_id), self._catalog.id()) as driver:
            yield driver

    def public_properties(self, store_id: str) -> Mapping[str, object]:
        """Return a store's properties for operators and services; nothing if its kind's library is missing.

        Raises:
            StoreUnknown: the store is not configured any more.
        """
        try:
            return new_driver(store_id, self._settings_of(store_id), self._catalog.id()).public_properties()
        except StoreUnavailable as missing:
            log.warning("properties of a store not shown", store=store_id, reason=str(missing))
            return {}

    def _settings_of(self, store_id: str) -> StoreSettings:
        in_force = self.settings_in_force()
        if store_id not in in_force:
            raise StoreUnknown(store_id, list(in_force))
        return in_force[store_id]


@dataclass(frozen=True, slots=True)
class Site:
    """The state shared by all requests.

    Attributes:
        judge: decides which URIs may be imported from.
        policy: who may do what.
        protection: who may do what with which extra properties.
        schemas: of images and related resources.
        quotas: of projects.
        document: the OpenAPI document of the API.
    """

    settings: Settings
    catalog: Catalog
    stores: StoreRegistry
    judge: UriJudge
    policy: Policy
    protection: PropertyProtection
    schemas: Schemas
    quotas: Quotas
    document: Mapping[str, object]


@dataclass(frozen=True)
class Call:
    """One request with its body and its caller."""

    site: Site
    caller: Caller
    request: Request
    body: bytes

    @property
    def identity(self) -> Identity:
        """The caller, with token and service catalogue."""
        found: Identity = self.request.scope["state"]["identity"]
        return found

    @cached_property
    def viewer(self) -> Viewer:
        """The caller, for visibility and policies."""
        caller, identity = self.caller, self.identity
        return self.site.policy.judged(
            Viewer(
                caller.project_id,
                caller.roles,
                user_id=caller.user_id,
                service_user_id=identity.service_user_id,
                service_roles=identity.service_roles,
            )
        )

    def require(self, action: Action, image: Image) -> None:
        """Refuse the caller unless they may do something with an existing image.

        Raises:
            ImageNotFound: the caller may not be shown the image.
            Forbidden: the policy does not allow it.
        """
        self.site.policy.refuse_unless(action, self.viewer, image)

    @property
    def image_id(self) -> str:
        """The image id in the path, in lower case.

        Raises:
            ImageNotFound: it is not a UUID, so there is no such image.
        """
        return self._uuid_in_path("image_id", ImageNotFound)

    @property
    def task_id(self) -> str:
        """The task id in the path, in lower case.

        Raises:
            TaskNotFound: it is not a UUID, so there is no such task.
        """
        return self._uuid_in_path("task_id", TaskNotFound)

    def _uuid_in_path(self, name: str, unknown: type[ImageNotFound | TaskNotFound]) -> str:
        asked = str(self.request.path_params[name])
        if not _UUID.fullmatch(asked.lower()):
            raise unknown(asked)
        return asked.lower()

    @property
    def accept(self) -> str:
        """The Accept header; empty when not sent."""
        return self.request.headers.get("accept", "")


def identify(request: Request, request_id: str) -> Caller:
    """Return the caller found by `transship.api.authentication`."""
    identity: Identity = request.scope["state"]["identity"]
    return Caller(identity.project_id, identity.user_id, identity.roles, request_id)
