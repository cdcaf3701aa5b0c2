"""Health checks of components over HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit


async def answers(url: str, timeout_s: float) -> bool:
    """Return whether a GET request to a plain HTTP URL returns 200 in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _status(url) == HTTPStatus.OK
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False


async def _status(url: str) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        status_line = await reader.readuntil(b"\r\n")
        return int(status_line.split()[1])
    finally:
        writer.close()
