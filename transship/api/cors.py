"""Requests from web pages of other origins, e.g. uploads from Horizon."""

from __future__ import annotations

from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from config.settings import CorsSettings

ALWAYS_ALLOWED: Final = ("Cache-Control", "Expires", "Last-Modified", "Pragma")
"""Request headers that oslo.middleware allows whatever the settings say; Starlette has its others."""


def cors_middleware(settings: CorsSettings) -> list[Middleware]:
    """Return what answers the questions of browsers, and permits their pages to read answers; nothing if it is off."""
    if not settings.allowed_origin:
        return []
    everybody = "*" in settings.allowed_origin
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origin,
            # With credentials, Starlette would name each origin instead of the * that browsers refuse then.
            allow_credentials=settings.allow_credentials and not everybody,
            expose_headers=settings.expose_headers,
            max_age=settings.max_age,
            allow_methods=settings.allow_methods,
            allow_headers=(*ALWAYS_ALLOWED, *settings.allow_headers),
        )
    ]
