"""Sockets of components: kept open over a restart, so that it refuses nobody, and asked for their health.

Connections made during a restart wait in the kernel's queue until the new process accepts them.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

QUEUE: Final = 2048
"""Connections that may wait to be accepted; uvicorn's default."""


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Return a listening socket for each address of a host, as asyncio would create them.

    Args:
        host: name or address; empty: all addresses.

    Raises:
        OSError: one of them cannot be listened on; none is left open.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    with ExitStack() as undo:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise a socket for all IPv6 addresses would also take the port for all IPv4 addresses.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(QUEUE)
            made.append(listener)
        undo.pop_all()
    return tuple(made)


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
