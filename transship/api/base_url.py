"""The URL at which clients reach the API: configured, or that of a request and of the proxy before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from config.settings import ApiSettings

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?")


def base_url(scope: Scope, settings: ApiSettings) -> str:
    """Return the URL below which the sender of a request reaches the API, without a trailing slash.

    A value of a proxy that cannot be a scheme, host or path is ignored.

    Source: RFC 7239; oslo.middleware's ``http_proxy_to_wsgi``, which also prefers Forwarded to the older headers.
    """
    if settings.public_endpoint:
        return settings.public_endpoint
    own, headers = Request(scope).base_url, Headers(scope=scope)
    sent = _of_proxy(headers) if settings.enable_proxy_headers_parsing else {}
    scheme = sent["proto"].lower() if sent.get("proto", "").lower() in ("http", "https") else own.scheme
    host = sent["host"] if _HOST.fullmatch(sent.get("host", "")) else own.netloc
    prefix = sent.get("prefix", "").rstrip("/") if _PREFIX.fullmatch(sent.get("prefix", "")) else ""
    return f"{scheme}://{host}{prefix}{own.path}".rstrip("/")


def _of_proxy(headers: Headers) -> Mapping[str, str]:
    """Return what the first proxy, the one that the client sent to, says of the request."""
    older = {name: headers.get(f"x-forwarded-{name}", "").split(",")[0].strip() for name in ("proto", "host", "prefix")}
    if "forwarded" not in headers:
        return older
    pairs = [pair.partition("=") for pair in headers["forwarded"].split(",")[0].split(";")]
    return {**{name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}, "prefix": older["prefix"]}
