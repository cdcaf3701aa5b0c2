"""Validates callers' tokens with Keystone, and caches the results for some minutes.

Source: Identity API v3, "Validate and show information for token"; the order of the checks and the meaning of
service tokens follow keystonemiddleware's ``auth_token``.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from config.settings import AuthSettings
from transship.domain.errors import IdentityRefused, IdentityUnavailable, Unauthenticated
from transship.domain.service_catalogue import parse_catalogue
from transship.identity.caller import Identity
from transship.identity.login import Login

log = structlog.get_logger(__name__)

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
"""What a token may look like; 16 KiB is twice the longest token that Keystone issues."""


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    good_until: datetime


class TokenReader:
    """Finds the owner of a token; used from any thread.

    Args:
        settings: which Keystone, and how long results are cached.
        clock: aware times, UTC.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._clock = clock
        self._login = Login(settings)
        self._told = settings.www_authenticate_uri or settings.auth_url
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def remembered(self, token: str, service_token: str = "") -> Identity | None:
        """Return the owner of a token from the cache, without waiting; None if a token is not cached.

        Args:
            token, service_token: as `read`.
        """
        identity = self._cached(token)
        if identity is None or not service_token:
            return identity
        service = self._cached(service_token)
        return None if service is None else _through(service, identity)

    def _cached(self, token: str) -> Identity | None:
        key = _key(token)
        with self._lock:
            known = self._known.get(key)
            if known is None:
                return None
            if known.good_until <= self._clock():
                del self._known[key]
                return None
            self._known.move_to_end(key)
            return known.identity

    def read(self, token: str, service_token: str = "") -> Identity:
        """Return the owner of a token.

        Args:
            token: ``X-Auth-Token``; empty when not sent.
            service_token: ``X-Service-Token`` of a service that acts for the user. If it has a role in
                ``auth.service_token_roles``, the user's token may be expired. Empty when not sent.

        Raises:
            Unauthenticated: no token, or an invalid one.
            IdentityUnavailable: Keystone cannot validate it now.
        """
        if not token:
            raise Unauthenticated(self._told, "this service wants a token", "send X-Auth-Token")
        if not service_token:
            return self._validated(token, "X-Auth-Token")
        service = self._validated(service_token, "X-Service-Token")
        may_be_expired = any(role.lower() in service.roles for role in self._settings.service_token_roles)
        return _through(service, self._validated(token, "X-Auth-Token", may_be_expired=may_be_expired))

    def _validated(self, token: str, header: str, *, may_be_expired: bool = False) -> Identity:
        cached = self._cached(token)
        if cached is not None:
            return cached
        now = self._clock()
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated(self._told, f"{header} holds no token")
        body = self._ask(token, header, may_be_expired=may_be_expired)
        expires_at = _moment(body.get("expires_at"))
        if expires_at is None or (expires_at <= now and not may_be_expired):
            raise Unauthenticated(self._told, f"{header} has expired", "get a new one")
        identity = _identity(token, body)
        self._remember(token, identity, min(expires_at, now + timedelta(seconds=self._settings.token_cache_s)), now)
        return identity

    def _ask(self, token: str, header: str, *, may_be_expired: bool) -> Mapping[str, Any]:
        try:
            answer = self._login.ask(
                "/auth/tokens?allow_expired=1" if may_be_expired else "/auth/tokens", {"X-Subject-Token": token}
            )
        except (IdentityUnavailable, IdentityRefused) as error:
            log.error("caller's token cannot be validated", reason=str(error))  # noqa: TRY400 - the trace says no more
            raise IdentityUnavailable(self._settings.auth_url, "it cannot be asked who calls") from error
        if answer.status_code == 404:
            raise Unauthenticated(self._told, f"{header} is not valid, or has expired", "get a new one")
        try:
            body = answer.json()["token"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            body = None
        if not isinstance(body, Mapping):
            reason = f"it answered HTTP {answer.status_code} to the question whose token this is"
            log.error("caller's token cannot be validated", reason=reason)
            raise IdentityUnavailable(self._settings.auth_url, reason)
        return body

    def _remember(self, token: str, identity: Identity, good_until: datetime, now: datetime) -> None:
        if good_until <= now:
            return
        with self._lock:
            self._known[_key(token)] = _Known(identity, good_until)
            while len(self._known) > self._settings.token_cache_size:
                self._known.popitem(last=False)


def _through(service: Identity, identity: Identity) -> Identity:
    """Return a user for whom a service sends the request."""
    return replace(identity, service_user_id=service.user_id, service_roles=service.roles)


def _key(token: str) -> bytes:
    # A digest, so unused tokens do not stay in memory.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _identity(token: str, body: Mapping[str, Any]) -> Identity:
    project, user, roles = body.get("project"), body.get("user"), body.get("roles")
    project_id = str(project.get("id", "")) if isinstance(project, Mapping) else ""
    named = [role.get("name") for role in roles if isinstance(role, Mapping)] if isinstance(roles, list) else []
    return Identity(
        project_id=project_id,
        user_id=str(user.get("id", "")) if isinstance(user, Mapping) else "",
        roles=tuple(str(name).lower() for name in named if name) if project_id else (),
        catalogue=parse_catalogue(body.get("catalog")),
        token=token,
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
