"""The proxy that the operator configured. It finds hosts by itself, so that no address can be pinned behind it."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from transship.domain.errors import SourceRefused, SourceUnreachable
from transship.domain.uri_filter import SourceUri
from transship.sources.answer import is_interim
from transship.sources.aside import TookTooLong, run_aside
from transship.sources.gate import ResolverSilent, SystemResolver
from transship.sources.watch import Waiting
from transship.sources.wire import Wire, WireBroken, dial

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: .*)?\r?\n")
_LONGEST_LINE: Final = 65536


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: name or address.
        port: 1 to 65535.
        credentials: the header that opens it, if it asks for one.
    """

    host: str
    port: int
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self | None:
        """Return the proxy of a ``http://[user:password@]host:port``; None for an empty text."""
        if not url:
            return None
        parts = urlsplit(url)
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = base64.b64encode(pair.encode()).decode("ascii")
        credentials = {"Proxy-Authorization": f"Basic {basic}"} if parts.username else {}
        return cls(parts.hostname or "", parts.port or 0, credentials)

    def connect(self, uri: SourceUri, timeout_s: float, watch: Waiting) -> Wire:
        """Return a connection to the proxy.

        Args:
            uri: what it is for.
            timeout_s: limit for finding and connecting it.
            watch: ends the wait.

        Raises:
            SourceUnreachable: there is none.
        """
        ends_at = time.monotonic() + timeout_s
        try:
            addresses = run_aside(self._addresses, timeout_s, watch)
            connection = dial(addresses, self.port, ends_at - time.monotonic(), watch.stop)
        except (WireBroken, TookTooLong) as error:
            raise SourceUnreachable(uri.display, "the configured proxy does not answer") from error
        return Wire(connection, watch)

    def _addresses(self) -> tuple[str, ...]:
        try:
            return SystemResolver().resolve(self.host, self.port)
        except ResolverSilent:
            return ()


def open_tunnel(wire: Wire, uri: SourceUri, proxy: Proxy) -> None:
    """Let the proxy connect through to the host of ``uri``.

    Raises:
        SourceUnreachable: it cannot.
        SourceRefused: it does not want to.
        WireBroken: it does not speak HTTP.
    """
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    target = f"{host}:{uri.effective_port}"
    headers = {"Host": target, **proxy.credentials}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    wire.sendall("\r\n".join(lines).encode("ascii"))
    status = _status_of_tunnel(wire)
    if status >= 500:
        raise SourceUnreachable(uri.display, f"the configured proxy cannot connect to it (HTTP {status})")
    if not 200 <= status < 300:
        raise SourceRefused(uri.display, status, "the configured proxy does not let us through")


def _status_of_tunnel(wire: Wire) -> int:
    """Read the proxy's answer, and the interim ones before it; return its status."""
    while True:
        status_line = wire.reader.readline(_LONGEST_LINE)
        match = _STATUS.fullmatch(status_line)
        if match is None:
            raise WireBroken("the proxy gave no HTTP answer")
        while wire.reader.readline(_LONGEST_LINE) not in (b"\r\n", b"\n"):
            if not wire.reader.last_line.endswith(b"\n"):
                raise WireBroken("the proxy's headers were cut off")
        if not is_interim(status_line):
            return int(match[1])
