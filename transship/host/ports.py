"""Ports to listen on; one that cannot be used is refused with the setting that chooses it."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Final

from transship.domain.errors import ConfigurationRefused

QUEUE: Final = 2048
"""Connections that may wait to be accepted; uvicorn's default."""


def listen(host: str, port: int, option: str) -> tuple[socket.socket, ...]:
    """Return a listening socket for each address of a host, as asyncio would create them.

    Args:
        host: name or address; empty: all addresses.
        option: setting with the port, e.g. ``api.port``.

    Raises:
        ConfigurationRefused: another program listens there, or the address does not belong to this machine; no socket
            is left open.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
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
    except OSError as error:
        raise _refused(host, port, option, error) from error
    return tuple(made)


def require_free_port(host: str, port: int, option: str) -> None:
    """Refuse a port that cannot be listened on.

    Args:
        option: as `listen`.

    Raises:
        ConfigurationRefused: as `listen`.
    """
    for listener in listen(host, port, option):
        listener.close()


def _refused(host: str, port: int, option: str, error: OSError) -> ConfigurationRefused:
    host_option = f"{option.partition('.')[0]}.host"
    if isinstance(error, socket.gaierror):
        return ConfigurationRefused("settings", host_option, f"{host} is not an address: {error.strerror}")
    if error.errno == errno.EADDRNOTAVAIL:
        reason = f"{host} is no address of this machine"
        return ConfigurationRefused("start", host_option, reason, "0.0.0.0 stands for all of them")
    choose = f"start with 'transship up --set {option}=PORT', which the home directory remembers"
    if error.errno == errno.EADDRINUSE:
        reason, remedy = "is taken by another program", f"stop that program, or {choose}"
    else:
        reason, remedy = f"cannot be used: {error.strerror}", choose
    return ConfigurationRefused("start", option, f"port {port} of {host} {reason}", remedy)
