"""Connects to sources directly at their judged addresses, or through the operator's proxy.

Nothing is taken from the environment: no proxy, no credentials, no cookies. A proxy resolves hosts itself, so addresses
cannot be pinned behind it.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import structlog

from config.settings import DownloadSettings
from transship.domain.errors import (
    ConfigurationRefused,
    SourceRefused,
    SourceTooSlow,
    SourceUnreachable,
    SourceUntrusted,
)
from transship.domain.uri_filter import SourceUri
from transship.sources.connection import CertificateRefused, Connection, HeadTooLarge
from transship.sources.dialling import ConnectionBroken, client_tls, dial
from transship.sources.gate import Admitted, ResolverFailed, SystemResolver
from transship.sources.judging import TookTooLong, run_within
from transship.sources.watch import Waiting

log = structlog.get_logger(__name__)

NO_ANSWER: Final = "its server gave no HTTP answer"
"""The same reason for closed, filtered, silent and non-HTTP ports, so imports cannot be used as a port scanner."""


@cache
def user_agent() -> str:
    """Return the ``User-Agent`` of downloads."""
    return f"transship/{version('transship')}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: name or address.
        port: 1 to 65535.
        credentials: the ``Proxy-Authorization`` header; empty if none is needed.
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

    def addresses(self) -> tuple[str, ...]:
        """Return the current addresses of its name; empty when it cannot be resolved."""
        try:
            return SystemResolver().resolve(self.host, self.port)
        except ResolverFailed:
            return ()


class Transport:
    """Sends requests to admitted sources.

    Attributes:
        limits: how long to wait.
    """

    def __init__(self, limits: DownloadSettings, tls: ssl.SSLContext | None = None) -> None:
        """Read the authorities and the proxy from the settings.

        Args:
            limits: times, authorities, proxy.
            tls: settings for https; None: the system's authorities and those of ``limits``, TLS 1.2 or newer.

        Raises:
            ConfigurationRefused: a file of authorities cannot be used.
        """
        self.limits = limits
        self._proxy = Proxy.from_url(limits.proxy_url.get_secret_value())
        self._tls = tls or _tls(limits, proxied=False)
        # The authorities of an inspecting proxy are trusted only behind that proxy.
        self._tls_behind_proxy = _tls(limits, proxied=True) if self._proxy and tls is None else self._tls

    def connect(self, source: Admitted, watch: Waiting) -> Connection:
        """Return a connection over which a source can be requested.

        Args:
            source: only its addresses are dialled, or the proxy's; its name is used for SNI and the certificate check.
            watch: ends the wait.

        Raises:
            SourceUnreachable: no connection, or no TLS.
            SourceUntrusted: the certificate does not prove the name.
            SourceRefused: the proxy refused to connect.
            TransferFailed, LockLost: a limit of the watch.
        """
        uri = source.uri
        watch.uri = uri.display
        try:
            return self._connected(source, self._proxy_of(source), watch)
        except ConnectionBroken as broken:
            log.info("source not connected", uri=uri.display, addresses=source.addresses, reason=broken.reason)
            raise SourceUnreachable(uri.display, NO_ANSWER) from broken
        except CertificateRefused as refused:
            raise SourceUntrusted(uri.display, refused.reason) from refused

    def request(self, source: Admitted, headers: Mapping[str, str]) -> bytes:
        """Return a GET request with additional headers, e.g. ``Range``."""
        return _request(source.uri, headers, self._proxy_of(source))

    def _proxy_of(self, source: Admitted) -> Proxy | None:
        return self._proxy if source.proxied else None

    def _connected(self, source: Admitted, proxy: Proxy | None, watch: Waiting) -> Connection:
        uri = source.uri
        ends_at = time.monotonic() + self.limits.connect_timeout_s
        with ExitStack() as undo:
            if proxy is None:
                dialled = dial(source.addresses, uri.effective_port, self.limits.connect_timeout_s, watch.stop)
            else:
                try:
                    addresses = run_within(proxy.addresses, self.limits.connect_timeout_s, watch)
                    dialled = dial(addresses, proxy.port, ends_at - time.monotonic(), watch.stop)
                except (ConnectionBroken, TookTooLong) as error:
                    raise SourceUnreachable(uri.display, "the configured proxy does not answer") from error
            connection = Connection(dialled, source, watch)
            undo.callback(connection.close)
            if uri.scheme == "https":
                if proxy is not None:
                    _open_tunnel(connection, uri, proxy)
                tls = self._tls if proxy is None else self._tls_behind_proxy
                connection.start_tls(tls, uri.host, ends_at - time.monotonic())
            undo.pop_all()
        return connection


def refuse_bad_authorities(limits: DownloadSettings) -> None:
    """Check that a download can read the files of authorities.

    Raises:
        ConfigurationRefused: one of them cannot be used.
    """
    _tls(limits, proxied=True)


def _tls(limits: DownloadSettings, *, proxied: bool) -> ssl.SSLContext:
    option = "download.ca_file"
    try:
        context = client_tls(*([limits.ca_file] if limits.ca_file else []))
        option = "download.proxy_ca_file"
        if proxied and limits.proxy_ca_file:
            context.load_verify_locations(cafile=limits.proxy_ca_file)
    except OSError as error:
        reason = f"it cannot be read, or holds no certificate in PEM form ({error.strerror or error})"
        raise ConfigurationRefused("settings", option, reason) from error
    return context


def _open_tunnel(connection: Connection, uri: SourceUri, proxy: Proxy) -> None:
    """Open a tunnel through the proxy to the host of ``uri``.

    Raises:
        SourceUnreachable: the proxy cannot connect to it.
        SourceRefused: the proxy refuses to.
        ConnectionBroken: the proxy does not speak HTTP.
    """
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    target = f"{host}:{uri.effective_port}"
    connection.send(_message(f"CONNECT {target} HTTP/1.1", {"Host": target, **proxy.credentials}))
    connection.read_head()
    status = connection.status
    if status >= 500:
        raise SourceUnreachable(uri.display, f"the configured proxy cannot connect to it (HTTP {status})")
    if not 200 <= status < 300:
        raise SourceRefused(uri.display, status, "the configured proxy does not let us through")


def _request(uri: SourceUri, wanted: Mapping[str, str], proxy: Proxy | None) -> bytes:
    headers = {
        "Host": uri.authority,
        "User-Agent": user_agent(),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **wanted,
    }
    target = uri.target
    if proxy is not None and uri.scheme == "http":
        target = uri.text
        headers |= proxy.credentials
    return _message(f"GET {target} HTTP/1.1", headers)


def _message(first_line: str, headers: Mapping[str, str]) -> bytes:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("ascii")


@contextmanager
def translated_errors(connection: Connection) -> Iterator[None]:
    """Translate connection errors of a block that requests a source.

    Raises:
        SourceUnreachable: no HTTP response, or silence before the status line.
        SourceRefused: too many or too large headers.
        TransferFailed, LockLost: a limit of the watch.
    """
    try:
        yield
    except (ConnectionBroken, SourceTooSlow) as error:
        status, display = connection.status, connection.display
        if status and isinstance(error, SourceTooSlow):
            raise
        addresses = connection.source.addresses
        log.info("no usable response from the source", uri=display, addresses=addresses, reason=repr(error))
        if status and isinstance(error, HeadTooLarge):
            reason = "its headers are longer or more than HTTP clients accept"
            raise SourceRefused(display, status, reason) from error
        raise SourceUnreachable(display, NO_ANSWER) from error
