"""The versions of the API, and how a request selects one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import ApiSettings
from transship.api.base_url import base_url

VERSIONS: Final = (
    "v2.15", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.17",
    "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0",
)  # fmt: skip
"""In the order in which a Glance with several stores and no image cache lists them."""

CURRENT: Final = "v2.17"

_MEDIA_TYPE: Final = "application/vnd.openstack.images-"
OPEN_TO_ALL: Final = frozenset({"/healthcheck", "/openapi.json", "/docs"})
"""Paths without a version, which need no token."""

VERSION_LISTS: Final[Mapping[str, HTTPStatus]] = {"/": HTTPStatus.MULTIPLE_CHOICES, "/versions": HTTPStatus.OK}
"""Paths that list the versions, and the status of the answer; other paths without a known version mean the first."""


class VersionNegotiation:
    """Take the version from the path or the Accept header; a request without one gets the list.

    As in Glance, several slashes are one, and ``OPTIONS`` of any path is an empty 200, with or without a token.

    Args:
        app: handles requests whose path begins with ``/v2``.
        settings: where links lead.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response()(scope, receive, send)
            return
        scope = {**scope, "path": re.sub("/{2,}", "/", scope["path"])}
        first, slash, rest = scope["path"].lstrip("/").partition("/")
        accept = Headers(scope=scope).get("accept", "")
        if first == "versions":
            await self._list(scope, VERSION_LISTS["/versions"])(scope, receive, send)
        elif scope["path"] in OPEN_TO_ALL:
            await self._app(scope, receive, send)
        elif accept.startswith(_MEDIA_TYPE) and is_known(accept.removeprefix(_MEDIA_TYPE)):
            await self._app({**scope, "path": f"/v2{scope['path']}"}, receive, send)
        elif not accept.startswith(_MEDIA_TYPE) and is_known(first):
            await self._app({**scope, "path": f"/v2{slash}{rest}"}, receive, send)
        else:
            await self._list(scope, VERSION_LISTS["/"])(scope, receive, send)

    def _list(self, scope: Scope, status: HTTPStatus) -> Response:
        link = {"rel": "self", "href": f"{base_url(scope, self._settings)}/v2/"}
        versions = [
            {"id": version, "status": "CURRENT" if version == CURRENT else "SUPPORTED", "links": [link]}
            for version in VERSIONS
        ]
        return JSONResponse({"versions": versions}, status.value)


def is_known(version: str) -> bool:
    """Whether a path segment or media type names a version of this API."""
    return version == "v2" or version in VERSIONS
