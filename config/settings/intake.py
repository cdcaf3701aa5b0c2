"""Where image data may come from, and the staging directory in which they arrive."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.settings.keystone import KeystoneLogin
from config.settings.section import (
    GIB,
    MIB,
    AbsolutePath,
    Bytes,
    HostOrNetwork,
    Network,
    Port,
    Seconds,
    Section,
    web_url,
)
from transship.domain.errors import ValueRefused


class UriSettings(Section):
    """Where images may be imported from. If an allow list is set, the deny list at the same level is ignored."""

    allowed_schemes: tuple[str, ...] = Field(("http", "https"), description="Accepted schemes; empty: no allow list.")
    disallowed_schemes: tuple[str, ...] = Field((), description="Refused schemes; used if allowed_schemes is empty.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Accepted host names and addresses, including private ones; empty: no allow list."
    )
    disallowed_hosts: tuple[str, ...] = Field((), description="Refused hosts; used if allowed_hosts is empty.")
    allowed_networks: tuple[Network, ...] = Field(
        (), description="Accepted networks (CIDR), including private ones; empty: no allow list."
    )
    disallowed_networks: tuple[Network, ...] = Field(
        (), description="Refused networks (CIDR); used if allowed_networks is empty."
    )
    internal_hosts: tuple[HostOrNetwork, ...] = Field(
        (),
        description="Hosts (host or host:port) and networks (CIDR) that may be reached although their addresses are"
        " private. A port named here is accepted for that host. This is not an allow list.",
    )
    allowed_ports: tuple[Port, ...] = Field(
        (80, 443), description="Accepted ports for URIs that name one; empty: no allow list."
    )
    disallowed_ports: tuple[Port, ...] = Field((), description="Refused ports; used if allowed_ports is empty.")
    allow_https_to_http: bool = Field(False, description="Follow redirects from https to http.")
    max_redirects: int = Field(5, ge=0, le=20, description="Most redirects followed for one download.")
    max_length: int = Field(4096, ge=64, description="Longest accepted URI, in characters.")


class DownloadSettings(Section):
    """Limits of a download."""

    connect_timeout_s: Seconds = Field(10.0, description="Time limit for opening one connection, including TLS.")
    idle_timeout_s: Seconds = Field(
        90.0, description="Longest time without data from the server, or from a proxy that scans the file first."
    )
    total_timeout_s: Seconds = Field(6 * 3600.0, description="Time limit for the whole download.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Minimum average speed over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(
        60.0, description="Seconds over which the speed is averaged. The first window is not checked."
    )
    retries: int = Field(4, ge=0, description="Retries after transient errors.")
    backoff_s: Seconds = Field(
        2.0, description="Delay before the first retry; it doubles with each further one, with jitter."
    )
    retry_after_cap_s: Seconds = Field(120.0, description="Longest delay accepted from a server's Retry-After.")
    chunk_bytes: int = Field(1 * MIB, ge=64 * 1024, description="Bytes read at a time.")
    allow_empty: bool = Field(False, description="Accept a source of 0 bytes.")
    connections: int = Field(
        4, ge=1, le=64, description="Connections for one download if the server supports ranges; 1: a single stream."
    )
    range_bytes: int = Field(
        64 * MIB,
        ge=1 * MIB,
        description="Size of one range. After a crash, at most this much per connection is downloaded again.",
    )
    connections_per_host: int = Field(
        8, ge=0, description="Connections to one source host from all imports on this machine; 0: no limit."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with certificate authorities for https sources, in addition to the system's."
    )
    proxy_url: SecretStr = Field(
        SecretStr(""),
        description="Proxy for downloads, http://[user:password@]host:port; empty: none. Proxy variables of the"
        " environment are ignored.",
    )
    no_proxy: tuple[str, ...] = Field(
        (),
        description="Hosts, .domains (with all hosts below) and networks (CIDR) that are reached without proxy_url.",
    )
    proxy_ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the authorities of a TLS-inspecting proxy; only used together with proxy_url."
    )

    @field_validator("proxy_url")
    @classmethod
    def _proxy_can_be_used(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if not text:
            return url
        try:
            parts = urlsplit(text)
            usable = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
        except ValueError:
            usable = False
        if not usable or parts.path.strip("/") or parts.query or parts.fragment or not text.isascii():
            raise ValueRefused(
                "proxy_url is not a usable URL", "write http://host:port or http://user:password@host:port"
            )
        return url


class GlanceDownloadSettings(Section):
    """The import method glance-download."""

    extra_properties: tuple[str, ...] = Field(
        ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type"),
        description="Prefixes of property names that are copied from the remote image.",
    )


class RemoteSettings(KeystoneLogin):
    """A region whose Glance is reached at a fixed URL, not through the service catalogue."""

    url: str = Field(description="URL of its Images API, e.g. https://images.region-two.example.org.")
    send_caller_token: bool = Field(
        False, description="Send the caller's token to it. Set this if both regions share a Keystone."
    )

    through_proxy: bool = Field(
        False, description="Use download.proxy_url. The proxy can read tokens that are sent to an http URL."
    )

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not url:
            raise ValueRefused("url is empty", "set it to the URL of the region's Images API")
        return web_url("url", url)

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        named = bool(self.auth_url or self.username or self.user_id or self.application_credential_id)
        if named and not self.complete:
            raise ValueRefused(
                "the login is incomplete",
                "set auth_url, username, password and project_name (or user_id and project_id),"
                " or auth_url and an application credential",
            )
        if named and self.send_caller_token:
            raise ValueRefused("send_caller_token and a login exclude each other", "set one of them")
        return self


class UploadSettings(Section):
    """Limits for clients that upload image data."""

    idle_timeout_s: Seconds = Field(60.0, description="Longest time without data from the client.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Minimum average speed over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(60.0, description="Seconds over which the speed is averaged.")


class StagingSettings(Section):
    """The directory that holds images during their import."""

    dir: AbsolutePath | None = Field(None, description="Staging directory; unset: <home>/staging.")
    free_floor_bytes: Bytes = Field(
        256 * MIB, description="Space that imports leave free, so that the databases can always write."
    )
    wait_s: Annotated[float, Field(ge=0)] = Field(
        900.0,
        description="Longest wait for space that other imports occupy; then the import fails. 0: it fails at once.",
    )
    unknown_size_reserve_bytes: Bytes = Field(
        1 * GIB, description="Space reserved in each step of a download of unknown size."
    )
