"""Free loopback ports for servers that are started later."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

LOWEST: Final = 15000
RANGE_OF_CLIENTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

_RESERVED: Final[list[socket.socket]] = []
"""A name in the kernel for each port that this process was given; it goes with the process."""


def free_port() -> int:
    """Return a port that nobody uses, and that no other process of these tests is given while this one lives.

    It lies below those that the kernel gives to clients: such a one may be somebody's before the server listens.
    """
    above = int(RANGE_OF_CLIENTS.read_text().split()[0])
    ports = range(LOWEST, above) if above - LOWEST > 1000 else range(LOWEST, 61000)
    for port in random.sample(ports, len(ports)):
        if _reserve(port):
            if _is_free(port):
                return port
            _RESERVED.pop().close()
    raise RuntimeError("no port is free")


def _reserve(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0transship-tests-port-{port}")
    except OSError:
        name.close()
        return False
    _RESERVED.append(name)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
