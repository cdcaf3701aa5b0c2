"""The middleware that authenticates the caller before any other code of the API sees the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import Settings
from transship.api.errors import error_response
from transship.api.versions import OPEN_TO_ALL
from transship.domain.errors import IdentityUnavailable, Unauthenticated
from transship.identity.caller import EVERYBODY, Identity

if TYPE_CHECKING:
    from transship.identity.tokens import TokenReader


class Authentication:
    """Put the caller's identity into the request's state, or answer 401.

    Args:
        app: handles authenticated requests.
        reader: validates tokens; None: every caller is admin.
    """

    def __init__(self, app: ASGIApp, reader: TokenReader | None) -> None:
        self._app = app
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            identity = await self._identity(scope["path"], headers)
        except (Unauthenticated, IdentityUnavailable) as error:
            await error_response(error, headers.get("accept", ""))(scope, receive, send)
            return
        scope.setdefault("state", {})["identity"] = identity
        with structlog.contextvars.bound_contextvars(**_shown(identity)):
            await self._app(scope, receive, send)

    async def _identity(self, path: str, headers: Headers) -> Identity:
        if self._reader is None or path in OPEN_TO_ALL:
            return EVERYBODY
        tokens = headers.get("x-auth-token", ""), headers.get("x-service-token", "")
        # Keystone is asked in a thread; cached tokens need none.
        remembered = self._reader.remembered(*tokens)
        if remembered is not None:
            return remembered
        identity: Identity = await run_in_threadpool(self._reader.read, *tokens)
        return identity


def reader_of(settings: Settings) -> TokenReader | None:
    """Return what validates tokens; None if every client that reaches the port is admin."""
    if settings.api.auth == "none":
        return None
    # Importing keystoneauth1 takes a quarter of a second, which sites without Keystone can save.
    from transship.identity.tokens import TokenReader  # noqa: PLC0415

    return TokenReader(settings.auth)


def _shown(identity: Identity) -> dict[str, str]:
    shown = {"project_id": identity.project_id, "user_id": identity.user_id}
    return {name: value for name, value in shown.items() if value}
