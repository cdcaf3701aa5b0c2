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


class UriSettings(Section):
    """Which addresses may be imported from. An allow list that is set decides alone at its level."""

    allowed_schemes: tuple[str, ...] = Field(("http", "https"), description="Schemes accepted; empty: no allow list.")
    disallowed_schemes: tuple[str, ...] = Field((), description="Schemes refused when allowed_schemes is empty.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names and addresses accepted, also private ones; empty: no allow list."
    )
    disallowed_hosts: tuple[str, ...] = Field((), description="Hosts refused when allowed_hosts is empty.")
    allowed_networks: tuple[Network, ...] = Field(
        (), description="Networks (CIDR) whose addresses are accepted, also private ones; empty: no allow list."
    )
    disallowed_networks: tuple[Network, ...] = Field(
        (), description="Networks (CIDR) whose addresses are refused when allowed_networks is empty."
    )
    internal_hosts: tuple[HostOrNetwork, ...] = Field(
        (),
        description="Hosts (host or host:port) and networks (CIDR) that may be reached although their addresses are"
        " private; a port named here is accepted for that host. This is no allow list.",
    )
    allowed_ports: tuple[Port, ...] = Field((80, 443), description="Ports accepted when a URI names one.")
    disallowed_ports: tuple[Port, ...] = Field((), description="Ports refused when allowed_ports is empty.")
    allow_https_to_http: bool = Field(False, description="Follow redirects from https to http.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects followed for one download.")
    max_length: int = Field(4096, ge=64, description="Longest URI accepted, in characters.")


class DownloadSettings(Section):
    """Limits of a download."""

    connect_timeout_s: Seconds = Field(10.0, description="Limit for one connection, with TLS.")
    idle_timeout_s: Seconds = Field(90.0, description="Longest silence of a server, or of a proxy that scans first.")
    total_timeout_s: Seconds = Field(6 * 3600.0, description="Limit for one whole download.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Slowest rate accepted over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(
        60.0, description="Seconds over which the slowest rate is taken; the first so many are free."
    )
    retries: int = Field(4, ge=0, description="Attempts after the first for faults that may pass.")
    backoff_s: Seconds = Field(2.0, description="Wait before the first retry; doubles with each, with jitter.")
    retry_after_cap_s: Seconds = Field(120.0, description="Longest wait that a server's Retry-After may ask for.")
    chunk_bytes: int = Field(1 * MIB, ge=64 * 1024, description="Bytes read at a time.")
    allow_empty: bool = Field(False, description="Accept a source of 0 bytes.")
    connections: int = Field(
        4, ge=1, le=64, description="Connections of one download, where the server can serve ranges; 1: one stream."
    )
    range_bytes: int = Field(
        64 * MIB,
        ge=1 * MIB,
        description="Size of one range: at most so much per connection is fetched again after a kill.",
    )
    connections_per_host: int = Field(
        8, ge=0, description="Connections to one source's host from all imports of this machine; 0: no limit."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file of authorities that https sources may have besides the system's."
    )
    proxy_url: SecretStr = Field(
        SecretStr(""),
        description="Proxy of downloads, http://[user:password@]host:port; empty: none, whatever the environment says.",
    )
    no_proxy: tuple[str, ...] = Field(
        (),
        description="What is reached without proxy_url: hosts, .domains with all hosts below them, networks (CIDR).",
    )
    proxy_ca_file: AbsolutePath | None = Field(
        None, description="PEM file of authorities that an inspecting proxy signs with; used with proxy_url alone."
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
            raise ValueError("proxy_url must be http://host:port or http://user:password@host:port")
        return url


class GlanceDownloadSettings(Section):
    """The import method glance-download."""

    extra_properties: tuple[str, ...] = Field(
        ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type"),
        description="Beginnings of the names of properties that are taken over from the remote image.",
    )


class RemoteSettings(KeystoneLogin):
    """A region whose Glance is reached at a URL, whatever service catalogues say."""

    url: str = Field(description="Its Images API, e.g. https://images.region-two.example.org.")
    send_caller_token: bool = Field(
        False, description="Call it with the token of whoever asks for the import: its Keystone is the caller's."
    )

    through_proxy: bool = Field(
        False, description="Reach it through download.proxy_url, which can read tokens that go to an http URL."
    )

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if not url:
            raise ValueError("url must be the address of the region's Images API")
        return web_url("url", url)

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        named = bool(self.auth_url or self.username or self.user_id or self.application_credential_id)
        if named and not self.complete:
            raise ValueError(
                "auth_url, username, password and project_name (or user_id and project_id) belong together,"
                " or auth_url and an application credential"
            )
        if named and self.send_caller_token:
            raise ValueError("send_caller_token and a login exclude each other")
        return self


class UploadSettings(Section):
    """Limits of the clients that upload image data."""

    idle_timeout_s: Seconds = Field(60.0, description="Longest silence of a client.")
    min_speed_bytes_per_s: Bytes = Field(1024, description="Slowest rate accepted over min_speed_window_s.")
    min_speed_window_s: Seconds = Field(60.0, description="Seconds over which the slowest rate is taken.")


class StagingSettings(Section):
    """The directory in which images lie while they are imported."""

    dir: AbsolutePath | None = Field(None, description="Staging directory; unset: <home>/staging.")
    free_floor_bytes: Bytes = Field(
        256 * MIB, description="Room that imports leave free, so that databases can always write."
    )
    wait_s: Annotated[float, Field(ge=0)] = Field(
        900.0, description="Longest wait for room that other imports take; then the import fails. 0: it fails at once."
    )
    unknown_size_reserve_bytes: Bytes = Field(
        1 * GIB, description="Room reserved at a time while a download's size is unknown."
    )
